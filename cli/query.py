"""``consensusllm query``: the REPL's command of the same name, from a shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .oneline import run_line
from .options import cluster_options
from .repl.lexer import quote
from .repl.planning import QUERY_FLAGS


def _query_options(function: Callable[..., int]) -> Callable[..., int]:
    for flag in reversed(QUERY_FLAGS):
        if flag.kind is None:
            option = click.option(flag.word, flag.name, is_flag=True, help=flag.meaning)
        else:
            option = click.option(
                flag.word,
                flag.name,
                metavar=flag.kind.metavar,
                multiple=flag.repeated,
                help=flag.meaning,
            )
        function = option(function)
    return function


@click.command()
@click.argument("conversation")
@click.argument("question", nargs=-1, required=True)
@cluster_options
@_query_options
def query(
    conversation: str,
    question: tuple[str, ...],
    config_path: str | None,
    base_port: int | None,
    connect: str | None,
    **given: Any,
) -> int:
    """Ask QUESTION in CONVERSATION, and print the answers when they are there.

    Without --models, --n or --one every node's default model answers. With --council they answer,
    review each other, and come to one answer, as its template says: three-stage, for one.
    """
    words = [quote(conversation)]
    for flag in QUERY_FLAGS:
        value = given[flag.name]
        if flag.kind is None:
            words += [flag.word] if value else []
        elif flag.otherwise is not None:
            if value is not None and value.split() != [value]:
                raise click.UsageError(
                    f"{flag.word}: {value!r} is no name: give one, see templates"
                )
            words += [f"{flag.word}={value}"] if value is not None else []
        elif value is not None:
            for each in value if flag.repeated else (value,):
                words += [flag.word, quote(each)]
    cluster = {"config_path": config_path, "base_port": base_port, "connect": connect}
    return run_line(cluster, "query", *words, quote(" ".join(question)))
