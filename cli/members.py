"""``consensusllm add-node`` and its like: the REPL's commands of the same names, from a shell."""

from __future__ import annotations

from typing import Any

import click

from .oneline import run_line
from .options import cluster_options

_NODE = click.IntRange(min=1, max=2**31 - 1)
_ADDRESS = click.argument("address", metavar="[HOST:PORT]", default="")


@click.command("add-node")
@click.argument("node", type=_NODE)
@_ADDRESS
@cluster_options
def add_node(node: int, address: str, **cluster: Any) -> int:
    """Make node NODE a member: it learns, then votes.

    Without HOST:PORT the launcher starts its process, on the base port plus NODE. With it, start
    the process first: `consensusllm node NODE --join HOST:PORT --config FILE`.
    """
    return run_line(cluster, "addNode", node, address)


@click.command("remove-node")
@click.argument("node", type=_NODE)
@cluster_options
def remove_node(node: int, **cluster: Any) -> int:
    """Make node NODE no member any more, for ever; a leader hands over first."""
    return run_line(cluster, "removeNode", node)


@click.command("replace-node")
@click.argument("node", type=_NODE)
@click.argument("new", type=_NODE)
@_ADDRESS
@cluster_options
def replace_node(node: int, new: int, address: str, **cluster: Any) -> int:
    """Add node NEW, then remove node NODE; HOST:PORT is NEW's, as for add-node."""
    return run_line(cluster, "replaceNode", node, new, address)


@click.command("transfer-leader")
@click.argument("node", type=_NODE)
@cluster_options
def transfer_leader(node: int, **cluster: Any) -> int:
    """Have the leader hand over to node NODE."""
    return run_line(cluster, "transferLeader", node)
