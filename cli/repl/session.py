"""Owns one person's or script's session: what it is connected to, and the running of a line.

A line ends in an outcome and never in an exception: what goes wrong becomes one line on the
standard error, and a traceback only where ``verbose`` asks for it.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from enum import IntEnum

from consensusllm.client import ConsensusError, InvalidRequest, Status, Unavailable
from consensusllm.orchestrator.client import FaultRefused, InvalidFault

from .backend import Backend, Conversations, Faults
from .language import STALE, Command
from .lexer import Misuse
from .output import Output
from .parser import Parsed, Table, parse_arguments, parse_command


class Outcome(IntEnum):
    """How a line ended; the value is the exit status that it asks for."""

    DONE = 0
    FAILED = 1
    MISUSE = 2
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command did not do what it was asked; the message is one line."""


class Leave(Exception):
    """The session is to end."""


@dataclass
class Known:
    """What was last learnt of the cluster, for completion and messages; it may be out of date."""

    conversations: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)


class Session:
    """``verbose`` adds a traceback to what is said of a failure."""

    def __init__(
        self, backend: Backend, output: Output, table: Table, verbose: bool = False
    ) -> None:
        self.output = output
        self.table = table
        self.known = Known(nodes=list(backend.nodes))
        self.place = ""
        """Said before every error: where the line stands that is run."""
        self._backend = backend
        self._verbose = verbose

    @property
    def client(self) -> Conversations:
        return self._backend.client

    async def faults(self) -> Faults:
        """Raises CommandFailed where the cluster has no orchestrator that is known."""
        faults = await self._backend.faults()
        if faults is None:
            raise CommandFailed(
                "no orchestrator is known: name the cluster by --config or --base-port"
            )
        return faults

    def address_by_rule(self, node: int) -> str | None:
        """Where the demo's node of that number listens: the base port plus it; None: unknown."""
        return self._backend.address_by_rule(node)

    async def statuses(self) -> dict[int, Status | None]:
        """What each node says of itself; None for one that does not answer. Learns the nodes.
        Raises Unauthenticated."""
        statuses = await self._backend.statuses()
        self.known.nodes[:] = sorted(statuses)
        return statuses

    async def run(self, line: str | Misuse) -> Outcome:
        """Run ``line``, or report that it is none.

        Raises Leave where it is exit, CancelledError where it is cancelled.
        """
        name = remedy = ""
        changing = False
        try:
            if isinstance(line, Misuse):
                raise line
            found = parse_command(self.table, line)
            if found is None:
                return Outcome.DONE
            command, rest = found
            name = f"{command.name}: "
            parsed = await self._parsed(command, rest)
            if STALE in command.flags and STALE.name not in parsed.arguments:
                remedy = f"; or add {STALE.word}, for what the node has applied"
            changing = command.changes
            await command.handler(self, **parsed.arguments)
        except (Misuse, InvalidRequest, InvalidFault) as misuse:
            self.output.error(f"{self.place}{name}{misuse}")
            return Outcome.MISUSE
        except Unavailable as error:
            self._report(name, f"{error}{remedy}")
            return Outcome.FAILED
        except (CommandFailed, ConsensusError, FaultRefused) as error:
            self._report(name, str(error))
            return Outcome.FAILED
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self._report(name, f"{where}{error.strerror or error}")
            return Outcome.FAILED
        except asyncio.CancelledError as cancelled:
            if changing:
                what = str(cancelled) or "it may have been done: look before doing it again"
                self._report(name, what)
            raise
        except Leave:
            raise
        except Exception as error:
            self._report(
                name, f"internal error: {type(error).__name__}: {error}; --verbose shows more"
            )
            return Outcome.FAILED
        return Outcome.DONE

    async def _parsed(self, command: Command, rest: str) -> Parsed:
        """A node that is not known may have joined since: who they are is then asked once more."""
        if self.known.nodes or not command.needs_nodes:
            try:
                return parse_arguments(command, rest, self.known.nodes)
            except Misuse:
                if not command.needs_nodes:
                    raise
        await self.statuses()
        return parse_arguments(command, rest, self.known.nodes)

    def _report(self, name: str, message: str) -> None:
        if self._verbose:
            self.output.raw_error(traceback.format_exc())
        self.output.error(f"{self.place}{name}{message}")
