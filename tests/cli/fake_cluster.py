"""A launcher whose nodes are fake children: ``fake_cluster.py CONFIG PIDS [--repl]``.

Node 2 leads. Node 4 answers where it is installed, four ports above the orchestrator, and warns of
its disk. What the launcher is to remember is printed; the first time there is no room for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from consensusllm.config import Config, split_address
from consensusllm_cli.launcher import ORCHESTRATOR, node_name
from consensusllm_cli.main import explain
from consensusllm_cli.record import DataDirError, Record
from consensusllm_cli.supervisor import Cluster, Plan, command_line


def main(config_path: str, pids: str, *rest: str) -> int:
    config = Config.load(config_path)
    config.data_dir.mkdir(exist_ok=True)
    full = iter([DataDirError("the disk is full")])

    def keep(record: Record) -> None:
        for error in full:
            raise error
        print(f"kept: {dict(record.joined)}", flush=True)

    plan = Plan(
        config,
        Path(config_path),
        config.data_dir,
        Record("demo", (1, 2, 3), True),
        keep,
        repl="--repl" in rest,
    )
    host, port = split_address(config.orchestrator.address)
    leads = {2: config.node(2).address, 4: f"{host}:{port + 4}"}

    def arguments(name: str, lifeline: int) -> Sequence[str]:
        if name == ORCHESTRATOR:
            return command_line(plan, lifeline, ORCHESTRATOR)
        fake = Path(__file__).with_name("fake_child.py")
        command = [sys.executable, str(fake), pids, name, str(lifeline)]
        for node, address in leads.items():
            if name == node_name(node):
                command += ["--leads", str(node), address]
        if name == node_name(4):
            command.append("--warns")
        return command

    try:
        return asyncio.run(Cluster(plan, arguments).run())
    except Exception as error:
        text, status = explain(error)
        print(f"consensusllm: {text}", file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
