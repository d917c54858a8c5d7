"""The commands that look at the cluster: status, nodes, log."""

from __future__ import annotations

from consensusllm.client import Status

from ..node_document import node_document
from ..progress import working
from .documents import print_json
from .language import JSON, Command, Group
from .render import agreement, ballot
from .session import CommandFailed, Session

_DOWN = "does not answer"


async def status(session: Session, json: bool = False) -> None:
    statuses = await session.statuses()
    if json:
        addresses = _addresses(statuses)
        told = [
            {**node_document(addresses.get(node, ""), one), "node": node}
            for node, one in sorted(statuses.items())
        ]
        print_json(session.output, told)
        _require_answer(statuses)
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
                one.state_hash[:12],
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
    session.output.line(agreement(statuses))
    for line in _joining(statuses):
        session.output.line(line)
    _require_answer(statuses)


async def nodes(session: Session) -> None:
    statuses = await session.statuses()
    addresses = _addresses(statuses)
    rows = []
    for node in sorted({*statuses, *addresses}):
        one = statuses.get(node)
        linked = [member.node for member in one.members if member.connected] if one else []
        rows.append(
            [
                str(node),
                addresses.get(node, "-"),
                one.role if one else _DOWN,
                ",".join(str(other) for other in linked if other != node) or "-",
                one.transport if one else "-",
                _duration(one.uptime_ms) if one else "-",
                one.version if one else "-",
            ]
        )
    session.output.table(
        ["node", "address", "role", "linked to", "network", "up for", "version"], rows
    )
    _require_answer(statuses)


async def log(session: Session) -> None:
    statuses = await session.statuses()
    rows = []
    for node, one in sorted(statuses.items()):
        if one is None:
            rows.append([str(node), *["-"] * 8])
            continue
        rows.append(
            [
                str(node),
                str(one.log_first_slot),
                str(one.chosen_through),
                str(one.applied_slot),
                str(one.snapshot_slot) if one.snapshot_slot else "-",
                str(one.log_bytes),
                str(one.pending),
                str(one.elections),
                f"{one.loop_lag_max_ms:.0f}",
            ]
        )
    session.output.table(
        [
            "node",
            "first",
            "chosen",
            "applied",
            "snapshot",
            "bytes",
            "pending",
            "elections",
            "lag ms",
        ],
        rows,
    )
    _require_answer(statuses)


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
        f"{max(0, one.chosen_through - member.chosen_through)} slots behind"
        for one in statuses.values()
        if one is not None and one.role == "leading"
        for member in one.members
        if not member.voting
    ]


def _require_answer(statuses: dict[int, Status | None]) -> None:
    if not any(statuses.values()):
        raise CommandFailed("no node answers: start the cluster with consensusllm up")


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
        example="nodes",
    ),
    Command(
        "log",
        Group.CLUSTER,
        "show what each node's log holds",
        log,
        detail=(
            "first to chosen are the slots that the log still holds; what is older is in the "
            "snapshot. pending counts commands that are admitted and not yet applied; elections, "
            "the ballots that the node has begun since it started; lag, how late its event loop "
            "was at worst."
        ),
        example="log",
    ),
)
