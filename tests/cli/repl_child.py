"""The REPL on a fake cluster, as a process of its own: what the pseudo-terminal tests drive."""

from __future__ import annotations

from consensusllm_cli.repl import command, repl
from tests.cli.repl_fakes import FakeCluster, connected

cluster = FakeCluster()
cluster.held["paxos-notes"] = []
command.connect_to = connected(cluster)
repl()
