"""The options by which every client command names its cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

NOBODY = (
    "no node answers: start the cluster with `consensusllm up`, or name nodes that run with "
    "--connect HOST:PORT"
)

Function = TypeVar("Function", bound=Callable[..., Any])


class Whole(click.IntRange):
    """A whole number within a range; what is none is told so, and not that it is "no range"."""

    name = "integer"


class Finite(click.FloatRange):
    """A number within a range; click's own lets "nan" pass, and "inf" where there is no maximum."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def cluster_options(function: Function) -> Function:
    """``--config``, ``--base-port`` and ``--connect``, as ``config_path``, ``base_port`` and
    ``connect``, to be given to `addresses.resolve_cluster`."""
    options = (
        click.option("--config", "config_path", metavar="FILE", help="The cluster's settings."),
        click.option(
            "--base-port",
            type=Whole(1, 65535 - 9),
            metavar="PORT",
            help="The demo that `up` started there; default 5100.",
        ),
        click.option("--connect", metavar="HOST:PORT,...", help="Addresses of some of its nodes."),
    )
    for option in reversed(options):
        function = option(function)
    return function
