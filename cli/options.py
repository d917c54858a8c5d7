"""The options by which every client command names its cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def cluster_options(function: Function) -> Function:
    """``--config``, ``--base-port`` and ``--connect``, as ``config_path``, ``base_port`` and
    ``connect``, to be given to `consensusllm.config.resolve_cluster`."""
    options = (
        click.option("--config", "config_path", metavar="FILE", help="The cluster's settings."),
        click.option(
            "--base-port",
            type=click.IntRange(1, 65535 - 9),
            metavar="PORT",
            help="The demo that `up` started there; default 5100.",
        ),
        click.option("--connect", metavar="HOST:PORT,...", help="Addresses of some of its nodes."),
    )
    for option in reversed(options):
        function = option(function)
    return function
