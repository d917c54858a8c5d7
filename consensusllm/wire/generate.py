"""Generate `consensusllm/wire/generated` from `protos/`: `python -m consensusllm.wire.generate`.

A developer's tool: it needs grpcio-tools (the `test` extra) and a checkout.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "consensusllm/wire/generated"


def generate(out: Path) -> None:
    """Write the generated modules below ``out``, which stands for the root of the checkout."""
    from grpc_tools import protoc

    arguments = [
        "protoc",
        f"-I{PACKAGE}={ROOT / 'protos'}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *(f"{PACKAGE}/{proto.name}" for proto in sorted((ROOT / "protos").glob("*.proto"))),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see its message above")
    for stub in (out / PACKAGE).glob("*_pb2_grpc.py"):
        # The methods of the base classes only say that a subclass has to define them.
        text = stub.read_text(encoding="utf-8")
        stub.write_text(re.sub(r"raise Not\w+Error", "raise RuntimeError", text), "utf-8")


if __name__ == "__main__":
    generate(ROOT)
    sys.stdout.write(f"generated {PACKAGE}\n")
