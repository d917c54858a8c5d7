"""``consensusllm status``: what every node says of itself, side by side."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .options import Finite, cluster_options
from .progress import BEHIND_LEAST, TAKING, shown, working
from .standing import (
    HASH_SHOWN,
    LEARNING,
    REMOVED,
    cluster_document,
    leading,
    node_document,
    trouble,
)

if TYPE_CHECKING:
    from rich.table import Table

    from consensusllm import client
    from consensusllm.wire.generated.client_pb2 import Status

    from .addresses import ClusterAddresses

COLUMNS = ("node", "role", "leader", "ballot", "chosen", "applied", "hash", "models", "lag ms")
WAIT_POLL_S = 0.2


@click.command()
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--wait",
    "wait_s",
    type=Finite(min=0),
    metavar="SECONDS",
    help="First wait until one node leads and all are in step with it.",
)
def status(
    config_path: str | None,
    base_port: int | None,
    connect: str | None,
    as_json: bool,
    wait_s: float | None,
) -> int:
    """Show every node's role, leader, ballot, log, state hash and models, and what it is busy with.

    lag is how late the node's event loop was at worst: in the last ten seconds, and ever.

    The exit status is 1 where no node leads, where two lead with other members each or differ in
    their states at one slot, or where waiting was in vain.
    """
    from .addresses import resolve_cluster

    cluster = resolve_cluster(config_path, base_port, connect)
    awaited = asyncio.run(wait_for_step(cluster, wait_s)) if wait_s is not None else ""
    nodes = asyncio.run(ask_all(cluster))
    if as_json:
        click.echo(json.dumps(_document(nodes, cluster.by_id), indent=2))
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table(nodes))
        for answer in filter(None, nodes.values()):
            for text in working(answer):
                click.echo(f"node {answer.node}: {text}")
    found = trouble(nodes.values())
    silent = [address for address, answer in nodes.items() if answer is None]
    if awaited:
        line = f"not all nodes were in step within {wait_s:g} s: {found or awaited}"
        click.echo(f"consensusllm: {line}", err=True)
    elif found:
        click.echo(f"consensusllm: {found}", err=True)
    elif silent and not as_json:
        click.echo(f"consensusllm: no answer from {', '.join(silent)}", err=True)
    return 1 if found or awaited else 0


async def wait_for_step(cluster: ClusterAddresses, seconds: float) -> str:
    """What is still to come before all nodes are in step when the time is over; "" where they are.
    How far they are is shown meanwhile."""
    deadline = time.monotonic() + seconds
    with shown(sys.stderr, terminal=sys.stderr.isatty(), each=False) as tell:
        while True:
            nodes = await ask_all(cluster)
            known, behind = lateness(nodes)
            if behind == "" or time.monotonic() >= deadline:
                return behind
            answers = of_members(nodes).values()
            applied = [answer.applied_slot for answer in answers if answer is not None]
            tell(min(applied, default=0), known, behind)
            await asyncio.sleep(WAIT_POLL_S)


def lateness(nodes: Mapping[str, Status | None]) -> tuple[int, str]:
    """The last slot that any member knows to be chosen, and what is to come before all are in step
    with it and vote; "" where they are and do."""
    leader = leading(nodes.values())
    voting = {member.node: member.voting for member in leader.members} if leader else {}
    nodes = of_members(nodes)
    answers = [answer for answer in nodes.values() if answer is not None]
    known = max((answer.progress.known_slot for answer in answers), default=0)
    for address, answer in nodes.items():
        if answer is None:
            return known, f"{address} does not answer"
        if doing := [text for text in working(answer) if not text.startswith(TAKING)]:
            return known, f"node {answer.node}: {doing[0]}"
        if known - answer.applied_slot >= BEHIND_LEAST:
            return known, f"node {answer.node}: {known - answer.applied_slot:,} slots behind"
        if answer.role == LEARNING or not voting.get(answer.node, True):
            return known, f"node {answer.node} has no vote yet"
    return known, "" if leader is not None else "no node leads"


def of_members(nodes: Mapping[str, Status | None]) -> dict[str, Status | None]:
    """Those of ``nodes`` that are members by the leader's word: a node that was removed, or that
    waits to be added, comes to be in step with nobody. Where none leads, all but those that know
    that they were removed."""
    leader = leading(nodes.values())
    if leader is None:
        return {
            address: answer
            for address, answer in nodes.items()
            if answer is None or answer.role != REMOVED
        }
    members = {member.node: member.address for member in leader.members}
    return {
        address: answer
        for address, answer in nodes.items()
        if (address in members.values() if answer is None else answer.node in members)
    }


async def ask_all(cluster: ClusterAddresses) -> dict[str, Status | None]:
    """The status of every node by its address, members that only other nodes know of included.

    Where only the demo's base port was given, the members say how many nodes there are.
    """
    from .probe import Prober

    async with Prober(cluster.client_token) as prober:
        return await prober.everybody(cluster.nodes)


def _document(nodes: Mapping[str, Status | None], by_id: Mapping[int, str]) -> dict[str, Any]:
    """``by_id`` says who is where as far as the nodes do not."""
    numbers = {address: node for node, address in by_id.items()} | {
        member.address: member.node
        for answer in nodes.values()
        if answer is not None
        for member in answer.members
    }
    return cluster_document(
        (numbers.get(address), address, _read(answer) if answer is not None else None)
        for address, answer in nodes.items()
    )


def _read(answer: Status) -> client.Status:
    from consensusllm.client.status import status_from_proto

    return status_from_proto(answer)


def table(nodes: Mapping[str, Status | None]) -> Table:
    """The nodes as a table."""
    from rich.table import Table

    result = Table(*COLUMNS)
    for address, answer in nodes.items():
        if answer is None:
            result.add_row(address, "unreachable", *["-"] * (len(COLUMNS) - 2))
            continue
        cells = node_document(None, address, _read(answer))
        result.add_row(
            str(cells["node"]),
            cells["role"],
            str(cells["leader"] or "-"),
            "{}.{}".format(*cells["ballot"]),
            str(cells["chosen"]),
            str(cells["applied"]),
            (cells["hash"] or "-")[:HASH_SHOWN],
            ", ".join(cells["models"]),
            f"{cells['loop_lag_ms']:.0f} (at most {cells['loop_lag_max_ms']:.0f})",
        )
    return result
