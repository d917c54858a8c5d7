"""A session of the REPL on a fake cluster, as its tests hold one."""

from __future__ import annotations

import io

from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.session import Outcome, Session
from consensusllm_cli.repl.table import TABLE
from tests.cli.repl_fakes import FakeCluster


class Desk:
    """A session on a fake cluster, and what it printed."""

    def __init__(self, terminal: bool = False, verbose: bool = False) -> None:
        self.cluster = FakeCluster()
        self.cluster.held["c1"] = []
        self._out, self._err = io.StringIO(), io.StringIO()
        output = Output(self._out, self._err, terminal)
        self.session = Session(self.cluster, output, TABLE, verbose)

    async def run(self, *lines: str) -> Outcome:
        """The outcome of the last of ``lines``; all but it must be done."""
        for line in lines[:-1]:
            assert await self.session.run(line) is Outcome.DONE, self.err
        self._out.truncate(0)
        self._out.seek(0)
        return await self.session.run(lines[-1])

    async def done(self, *lines: str) -> str:
        assert await self.run(*lines) is Outcome.DONE, self.err
        return self.out

    async def failed(self, *lines: str) -> str:
        assert await self.run(*lines) is Outcome.FAILED
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        return self.err[:-1]

    @property
    def out(self) -> str:
        return self._out.getvalue()

    @property
    def err(self) -> str:
        return self._err.getvalue()
