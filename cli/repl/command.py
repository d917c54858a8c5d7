"""Owns the ``repl`` command line: where the cluster is, where lines come from, the exit status."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from typing import BinaryIO

import click

from ..addresses import ClusterAddresses, resolve_cluster
from ..options import Whole, cluster_options
from .backend import connect as connect_to
from .history import history_path
from .interrupts import Interrupted, Interrupts
from .lexer import Misuse
from .lines import join_blocks, read_lines
from .output import Output
from .prompt import run_prompt
from .session import Leave, Outcome, Session
from .table import TABLE


@click.command("repl", short_help="Talk to a cluster.")
@cluster_options
@click.option("--node", type=Whole(min=1), metavar="ID", help="Speak to this node alone.")
@click.option(
    "-c", "commands", multiple=True, metavar="COMMAND", help="Run this command; may be repeated."
)
@click.argument("script", required=False, type=click.File("rb"))
@click.pass_context
def repl(
    context: click.Context,
    config_path: str | None,
    base_port: int | None,
    connect: str | None,
    node: int | None,
    commands: tuple[str, ...],
    script: BinaryIO | None,
) -> None:
    """Talk to a cluster: at a prompt, or by the commands of -c, of SCRIPT, or of standard input.

    The exit status is 1 where a command failed and 2 where one was misused; the commands after it
    are run all the same.
    """
    if commands and script:
        raise click.UsageError("give either -c or a SCRIPT, not both")
    addresses = resolve_cluster(config_path, base_port, connect)
    verbose = bool(getattr(context.obj, "verbose", False))
    context.exit(asyncio.run(_run(addresses, node, commands, script, verbose)))


async def run_commands(addresses: ClusterAddresses, commands: tuple[str, ...]) -> int:
    """Run ``commands`` as `-c` does; the worst outcome is the exit status."""
    return await _run(addresses, None, commands, None, verbose=False)


async def _run(
    addresses: ClusterAddresses,
    node: int | None,
    commands: tuple[str, ...],
    script: BinaryIO | None,
    verbose: bool,
) -> int:
    output = Output(sys.stdout, sys.stderr, sys.stdout.isatty())
    with Interrupts() as interrupts:
        async with connect_to(addresses, node) as backend:
            session = Session(backend, output, TABLE, verbose)
            if commands:
                return await run_lines(session, interrupts, _numbered(commands))
            if script is not None:
                lines = join_blocks(TABLE, read_lines(script))
                return await run_lines(session, interrupts, lines, script.name)
            if not (output.terminal and sys.stdin and sys.stdin.isatty()):
                stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()  # it may be closed
                return await run_lines(session, interrupts, join_blocks(TABLE, read_lines(stdin)))
            await run_prompt(session, interrupts, history_path())
            return Outcome.DONE


async def run_lines(
    session: Session,
    interrupts: Interrupts,
    lines: AsyncIterator[tuple[int, str | Misuse]],
    source: str = "",
) -> int:
    """Run every line, whatever becomes of those before it; return the worst outcome.

    Errors of a ``source`` name it and the line. Ctrl-C ends it all.
    """
    worst = Outcome.DONE
    try:
        while True:
            numbered = await interrupts.guard(_next(lines))
            if numbered is None:
                return worst
            number, line = numbered
            session.place = f"{source}:{number}: " if source else ""
            worst = max(worst, await interrupts.guard(session.run(line)))
    except Interrupted:
        return Outcome.INTERRUPTED
    except Leave:
        return worst


async def _next(lines: AsyncIterator[tuple[int, str | Misuse]]) -> tuple[int, str | Misuse] | None:
    return await anext(lines, None)


async def _numbered(commands: tuple[str, ...]) -> AsyncIterator[tuple[int, str | Misuse]]:
    for number, command in enumerate(commands, start=1):
        yield number, command
