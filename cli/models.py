"""``consensusllm models``: the REPL's command of the same name, from a shell."""

from __future__ import annotations

from typing import Any

import click

from .oneline import run_line
from .options import cluster_options


@click.command()
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def models(as_json: bool, **cluster: Any) -> int:
    """Show every model of the cluster: its node, health, calls, speed and spend.

    Calls and spend are of all time, as the log has them; speed and percentiles are of the last
    answers since the node's process began.
    """
    return run_line(cluster, "models", "--json" if as_json else "")
