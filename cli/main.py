"""The entry point: the group of commands, and the one place where errors become words and statuses.

It imports a command's module only when that command runs, so that ``--help`` answers at once.
Statuses: 0 done, 1 failed, 2 misuse (of the command line or of the configuration), 130 interrupted.
An exception whose class is defined by this project is an operating error, and its text is the line
that is shown; any other one is a bug and says so. ``--verbose`` adds the traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from consensusllm import __version__

from .options import Whole

COMMANDS: dict[str, tuple[str, str]] = {
    "up": (".up:up", "Start a whole cluster on this machine and look after it."),
    "node": (".serve:node", "Run one node."),
    "orchestrator": (".serve:orchestrator", "Run the network between the nodes."),
    "repl": (".repl:repl", "Talk to a cluster."),
    "status": (".status:status", "Show what every node is doing."),
    "query": (".query:query", "Ask a question, and print the answers."),
    "models": (".models:models", "Show every model, how it does and what it cost."),
    "add-node": (".members:add_node", "Make a new node a member."),
    "remove-node": (".members:remove_node", "Make a node no member any more."),
    "replace-node": (".members:replace_node", "Add a new node, then remove an old one."),
    "transfer-leader": (".members:transfer_leader", "Have the leader hand over."),
    "simulate": (".simulate:simulate", "Look for broken invariants under simulated faults."),
    "drill": (".drill:drill", "Break a cluster by script, and get a verdict."),
    "bench": (".bench:bench", "Measure it, side by side with others."),
    "verify": (".verify:verify", "Check an exported conversation's hash chain."),
    "check-history": (".check_history:check_history", "Check a recorded history."),
}
"""Each command's place and its line in the help."""

_OURS = ("consensusllm", __package__ or "consensusllm_cli")


@dataclass
class State:
    """What the options before the command say."""

    verbose: bool = False


def _set_verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(State).verbose = True


def _verbose_option() -> click.Option:
    return click.Option(
        ["--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_set_verbose,
        help="Log in detail, and show tracebacks.",
    )


class Commands(click.Group):
    """A group whose commands are imported when they are run. Each one takes ``--verbose`` too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module, __package__), name)
        assert isinstance(command, click.Command)
        if not any("--verbose" in parameter.opts for parameter in command.params):
            command.params.append(_verbose_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no such command '{name}'; {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    params=[_verbose_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="consensusllm", message="%(prog)s %(version)s")
@click.option(
    "--lifeline",
    type=Whole(min=0),
    metavar="FD",
    hidden=True,
    help="End when this inherited pipe is closed at its other end.",
)
def commands(lifeline: int | None) -> None:
    """LLM conversations on a Multi-Paxos replicated log."""
    if lifeline is not None:
        from .lifeline import end_with

        end_with(lifeline)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; what went wrong is one line on stderr."""
    state = State()
    if not arguments:
        context = click.Context(commands, info_name="consensusllm", **commands.context_settings)
        click.echo(commands.get_help(context), err=True)
        return 2
    try:
        status = commands.main(list(arguments), "consensusllm", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if state.verbose:
            traceback.print_exc()
        text, status = explain(error)
        with contextlib.suppress(OSError):  # a full disk: the status says it all the same
            click.echo(f"consensusllm: {text}", err=True)
        return status


_MISUSES = frozenset({"ConfigError", "InvalidRequest"})
"""By name: what they are of is not imported for every command."""


def explain(error: Exception) -> tuple[str, int]:
    """The one line for ``error``, and the exit status that goes with it."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "consensusllm"
        text = " ".join(error.format_message().split()).rstrip(".")
        return f"{text}; see {path} --help", 2
    if isinstance(error, click.ClickException):
        return " ".join(error.format_message().split()), error.exit_code
    if type(error).__module__.startswith(_OURS):
        names = {each.__name__ for each in type(error).__mro__}
        return str(error), 2 if names & _MISUSES else 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1
    if isinstance(error, MemoryError):
        return "there is not enough memory for it", 1
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    return f"internal error: {summary}; run it with --verbose and report the traceback", 1


def main() -> None:
    """The console script."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Lead those that are closed to nowhere: what is written there would fail, and another file
    would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


if __name__ == "__main__":
    main()
