"""Which threads of gRPC's move the bytes of a process that serves or measures.

Since 1.85 gRPC's C core reads and writes in threads of its own and wakes the thread that polls for
Python; without these two experiments that thread does it itself, which spares half of the context
switches of a message (docs/DECISIONS.md has the figures).
"""

from __future__ import annotations

import importlib.metadata
import os

_KNOWN_IN = ("1.85.",)
"""Versions of grpcio that have the experiments; others would complain about their names."""


def poll_in_one_thread() -> None:
    """To be called before gRPC is imported. What the environment says already stands."""
    if importlib.metadata.version("grpcio").startswith(_KNOWN_IN):
        os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
