"""The commands that look at the cluster: status, nodes, log."""

from __future__ import annotations

from typing import Any

from consensusllm.client import Status
from consensusllm.orchestrator.client import FaultList, FaultRefused

from ..options import NOBODY
from ..progress import working
from ..standing import LEADING, cluster_document, divided, trouble
from .documents import print_json
from .language import JSON, Command, Group
from .render import agreement, ballot, plural
from .session import CommandFailed, Session

_DOWN = "does not answer"
_FAILED = "failed"
_NO_FAULTS = FaultList([], [], [], [])


async def status(session: Session, json: bool = False) -> None:
    statuses = await session.statuses()
    if json:
        addresses = _addresses(statuses)
        nodes = [(node, addresses.get(node, ""), one) for node, one in sorted(statuses.items())]
        print_json(session.output, cluster_document(nodes))
        _require_no_trouble(statuses)
        return
    rows = []
    for node, one in sorted(statuses.items()):
        if one is None:
            rows.append([str(node), _DOWN, *["-"] * 6])
            continue
        rows.append(
            [
                str(node),
                one.role,
                ballot(one),
                str(one.chosen_through),
                str(one.applied_slot),
                one.state_hash[:12] or "-",
                _log_range(one),
                _models(one),
            ]
        )
    session.output.table(
        ["node", "role", "ballot", "chosen", "applied", "state", "log", "models"], rows
    )
    for node, one in sorted(statuses.items()):
        for text in working(one) if one is not None else ():
            session.output.line(f"node {node}: {text}")
    if any(statuses.values()) and not divided(statuses.values()):
        session.output.line(agreement(statuses))
    for line in _joining(statuses):
        session.output.line(line)
    _require_no_trouble(statuses)


async def nodes(session: Session, json: bool = False) -> None:
    statuses = await session.statuses()
    injected, unknown = await _injected(session, statuses)
    addresses = _addresses(statuses)
    found = []
    for node in sorted({*statuses, *addresses}):
        cut_to = [dst for src, dst in injected.cut if src == node]
        cut_from = [src for src, dst in injected.cut if dst == node]
        row: dict[str, Any] = {
            "node": node,
            "address": addresses.get(node),
            "role": _FAILED if node in injected.down else None,
            "cut_to": cut_to,
            "cut_from": cut_from,
        }
        if (one := statuses.get(node)) is not None:
            unlinked = {node, *cut_to, *cut_from, *injected.down}
            if injected.attached:
                unlinked |= {each.node for each in one.members} - {*injected.attached}
            row |= {
                "role": one.role,
                "linked_to": [
                    each.node
                    for each in one.members
                    if each.connected and each.node not in unlinked
                ],
                "network": one.transport,
                "up_for_ms": one.uptime_ms,
                "version": one.version,
            }
        found.append(row)
    if json:
        print_json(session.output, found)
    else:
        session.output.table(
            ["node", "address", "role", "linked to", "cut", "network", "up for", "version"],
            [
                [
                    str(row["node"]),
                    row["address"] or "-",
                    row["role"] or _DOWN,
                    ",".join(map(str, row.get("linked_to", ()))) or "-",
                    _cut(row["cut_to"], row["cut_from"]),
                    row.get("network", "-"),
                    _duration(row["up_for_ms"]) if "up_for_ms" in row else "-",
                    row.get("version", "-"),
                ]
                for row in found
            ],
        )
        if unknown:
            session.output.line(f"which links are cut is not known: {unknown}")
    _require_answer(statuses)


async def _injected(session: Session, statuses: dict[int, Status | None]) -> tuple[FaultList, str]:
    """The faults that the orchestrator knows of, and why they are not known."""
    present = [one for one in statuses.values() if one is not None]
    try:
        if any(one.orchestrator_address for one in present) or not present:
            return await (await session.faults()).faults(), ""
    except (CommandFailed, FaultRefused) as error:
        return _NO_FAULTS, str(error) if present else ""
    return _NO_FAULTS, ""


def _cut(to: list[int], back: list[int]) -> str:
    """The nodes that are cut off from one, with an arrow where only one direction is."""
    shown = [
        f"{'' if node in back else '→'}{node}" if node in to else f"←{node}"
        for node in sorted({*to, *back})
    ]
    return ",".join(shown) or "-"


async def log(session: Session, json: bool = False) -> None:
    statuses = await session.statuses()
    found = {node: _log_figures(one) for node, one in sorted(statuses.items())}
    if json:
        print_json(session.output, [{"node": node, **row} for node, row in found.items()])
    else:
        headings = ["first", "chosen", "applied", "snapshot", "bytes", "pending", "elections"]
        session.output.table(
            ["node", *headings, "lag ms"],
            [
                [
                    str(node),
                    *("-" if value is None else str(value) for value in row.values()),
                    *["-"] * (len(headings) + 1 - len(row)),
                ]
                for node, row in found.items()
            ],
        )
    _require_answer(statuses)


def _log_figures(one: Status | None) -> dict[str, int | None]:
    """Empty for a node that does not answer."""
    if one is None:
        return {}
    return {
        "first": one.log_first_slot,
        "chosen": one.chosen_through,
        "applied": one.applied_slot,
        "snapshot": one.snapshot_slot or None,
        "bytes": one.log_bytes,
        "pending": one.pending,
        "elections": one.elections,
        "lag_ms": round(one.loop_lag_max_ms),
    }


def _addresses(statuses: dict[int, Status | None]) -> dict[int, str]:
    """Where the nodes are, as those that answer say."""
    return {
        member.node: member.address
        for one in statuses.values()
        if one is not None
        for member in one.members
    }


def _joining(statuses: dict[int, Status | None]) -> list[str]:
    """What the leader says of the nodes that learn before they vote."""
    return [
        f"node {member.node} joins: "
        f"{plural(max(0, one.chosen_through - member.chosen_through), 'slot')} behind"
        for one in statuses.values()
        if one is not None and one.role == LEADING
        for member in one.members
        if not member.voting
    ]


def _require_answer(statuses: dict[int, Status | None]) -> None:
    if not any(statuses.values()):
        raise CommandFailed(NOBODY)


def _require_no_trouble(statuses: dict[int, Status | None]) -> None:
    if found := trouble(statuses.values()):
        raise CommandFailed(found)


def _log_range(one: Status) -> str:
    if one.chosen_through < one.log_first_slot:
        return "empty"
    return f"{one.log_first_slot}-{one.chosen_through}"


def _models(one: Status) -> str:
    mine = [model for model in one.models if model.node in (0, one.node)]
    return ", ".join(model.model or model.provider for model in mine) or "-"


def _duration(time_ms: int) -> str:
    minutes, seconds = divmod(time_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


COMMANDS = (
    Command(
        "status",
        Group.CLUSTER,
        "show the nodes' roles and states, and if they agree",
        status,
        flags=(JSON,),
        detail=(
            "A ballot is seq_num.pid. chosen is the last slot that the node knows to be decided, "
            "applied the last one that its state reflects, state the hash of that state."
        ),
        example="status",
    ),
    Command(
        "nodes",
        Group.CLUSTER,
        "show the nodes' addresses and links",
        nodes,
        flags=(JSON,),
        detail=(
            "Failed is a node that failNode killed. cut has the nodes to and from which nothing "
            "passes, whatever command cut the link; an arrow says that it is cut in that direction "
            "only."
        ),
        example="nodes",
    ),
    Command(
        "log",
        Group.CLUSTER,
        "show what each node's log holds",
        log,
        flags=(JSON,),
        detail=(
            "first to chosen are the slots that the log still holds; what is older is in the "
            "snapshot. pending counts commands of the node's own clients that are admitted and not "
            "yet applied; elections, the ballots that the node has begun since it started; lag, "
            "how late its event loop was at worst."
        ),
        example="log",
    ),
)
