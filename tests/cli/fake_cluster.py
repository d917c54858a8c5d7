"""A launcher whose nodes are fake children: ``fake_cluster.py CONFIG PIDS [--orchestrated]``.

Node 2 leads. With ``--orchestrated`` the orchestrator is the real one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from consensusllm.config import Config
from consensusllm_cli.formation import Record
from consensusllm_cli.launcher import ORCHESTRATOR, node_name
from consensusllm_cli.main import explain
from consensusllm_cli.supervisor import Cluster, Plan, command_line


def main(config_path: str, pids: str) -> int:
    config = Config.load(config_path)
    config.data_dir.mkdir(exist_ok=True)
    plan = Plan(config, Path(config_path), config.data_dir, Record("demo", (1, 2, 3), True), print)

    def arguments(name: str, lifeline: int) -> Sequence[str]:
        if name == ORCHESTRATOR:
            return command_line(plan, lifeline, ORCHESTRATOR)
        fake = Path(__file__).with_name("fake_child.py")
        command = [sys.executable, str(fake), pids, name, str(lifeline)]
        if name == node_name(2):
            command += ["--leads", "2", config.node(2).address]
        return command

    try:
        return asyncio.run(Cluster(plan, arguments).run())
    except Exception as error:
        text, status = explain(error)
        print(f"consensusllm: {text}", file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
