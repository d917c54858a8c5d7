"""``consensusllm add-node`` and its like: the REPL's commands of the same names, from a shell."""

from __future__ import annotations

from typing import Any

import click

from .oneline import run_line
from .options import Whole, cluster_options

_NODE = Whole(min=1, max=2**31 - 1)
_ADDRESS = click.argument("address", metavar="[HOST:PORT]", default="")
_JSON = click.option(
    "--json", "as_json", flag_value="--json", default="", help="Print one JSON object."
)


@click.command("add-node")
@click.argument("node", type=_NODE)
@_ADDRESS
@cluster_options
@_JSON
def add_node(node: int, address: str, as_json: str, **cluster: Any) -> int:
    """Make node NODE a member: it learns, then votes.

    Without HOST:PORT the launcher starts its process, on the base port plus NODE. With it, start
    the process first: `consensusllm node NODE --join HOST:PORT --config FILE`.
    """
    return run_line(cluster, "addNode", node, address, as_json)


@click.command("remove-node")
@click.argument("node", type=_NODE)
@cluster_options
@_JSON
def remove_node(node: int, as_json: str, **cluster: Any) -> int:
    """Make node NODE no member any more, for ever; a leader hands over first."""
    return run_line(cluster, "removeNode", node, as_json)


@click.command("replace-node")
@click.argument("node", type=_NODE)
@click.argument("new", type=_NODE)
@_ADDRESS
@cluster_options
@_JSON
def replace_node(node: int, new: int, address: str, as_json: str, **cluster: Any) -> int:
    """Add node NEW, then remove node NODE; HOST:PORT is NEW's, as for add-node."""
    return run_line(cluster, "replaceNode", node, new, address, as_json)


@click.command("transfer-leader")
@click.argument("node", type=_NODE)
@cluster_options
@_JSON
def transfer_leader(node: int, as_json: str, **cluster: Any) -> int:
    """Have the leader hand over to node NODE."""
    return run_line(cluster, "transferLeader", node, as_json)
