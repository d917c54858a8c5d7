"""The commands that break and mend the cluster's network and processes, by the orchestrator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .backend import Faults
from .documents import print_json, tell
from .language import JSON, MILLISECONDS, NODE, NODES, PERCENT, Command, Flag, Group, Parameter
from .lexer import Misuse
from .session import Session


async def fail_node(session: Session, node: int, json: bool = False) -> None:
    await _inject(session, json, "failNode", lambda faults: faults.fail_node, node=node)


async def fix_node(session: Session, node: int, json: bool = False) -> None:
    await _inject(session, json, "fixNode", lambda faults: faults.fix_node, node=node)


async def fail_link(
    session: Session, a: int, b: int, one_way: bool = False, json: bool = False
) -> None:
    _require_two(a, b)
    await _inject(
        session, json, "failLink", lambda faults: faults.fail_link, a=a, b=b, one_way=one_way
    )


async def fix_link(
    session: Session, a: int, b: int, one_way: bool = False, json: bool = False
) -> None:
    _require_two(a, b)
    await _inject(
        session, json, "fixLink", lambda faults: faults.fix_link, a=a, b=b, one_way=one_way
    )


async def partition(
    session: Session, groups: tuple[tuple[int, ...], ...], json: bool = False
) -> None:
    members = [node for group in groups for node in group]
    if len(set(members)) < len(members):
        raise Misuse("a node is in two groups: give each node once, such as 1,2 3")
    await _inject(session, json, "partition", lambda faults: faults.partition, groups=groups)


async def heal(session: Session, json: bool = False) -> None:
    await _inject(session, json, "heal", lambda faults: faults.heal)


async def delay(
    session: Session, a: int, b: int, ms: float, jitter: float = 0.0, json: bool = False
) -> None:
    _require_two(a, b)
    await _inject(
        session, json, "delay", lambda faults: faults.delay, a=a, b=b, delay_ms=ms, jitter_ms=jitter
    )


async def drop(session: Session, a: int, b: int, percent: float, json: bool = False) -> None:
    _require_two(a, b)
    await _inject(session, json, "drop", lambda faults: faults.drop, a=a, b=b, percent=percent)


async def duplicate(session: Session, a: int, b: int, percent: float, json: bool = False) -> None:
    _require_two(a, b)
    await _inject(
        session, json, "duplicate", lambda faults: faults.duplicate, a=a, b=b, percent=percent
    )


async def reorder(session: Session, a: int, b: int, percent: float, json: bool = False) -> None:
    _require_two(a, b)
    await _inject(
        session, json, "reorder", lambda faults: faults.reorder, a=a, b=b, percent=percent
    )


async def isolate(session: Session, node: int, json: bool = False) -> None:
    await _inject(session, json, "isolate", lambda faults: faults.isolate, node=node)


async def list_faults(session: Session, json: bool = False) -> None:
    injected = await (await session.faults()).faults()
    if json:
        print_json(session.output, injected.faults)
        return
    for fault in injected.faults:
        session.output.line(fault)
    if not injected.faults:
        session.output.line("no faults")


async def _inject(
    session: Session,
    json: bool,
    command: str,
    fault: Callable[[Faults], Callable[..., Awaitable[str]]],
    **arguments: object,
) -> None:
    """Say what the orchestrator answers; in JSON beside the ``command`` and its arguments."""
    done = await fault(await session.faults())(**arguments)
    tell(session.output, json, done, command=command, **arguments, done=done)


def _require_two(a: int, b: int) -> None:
    if a == b:
        raise Misuse(f"a link is between two nodes: give another one than {a} twice")


_NODE = Parameter("node", NODE)
_LINK = (Parameter("a", NODE, metavar="A"), Parameter("b", NODE, metavar="B"))
_PERCENT = (*_LINK, Parameter("percent", PERCENT))
_PERCENT_DETAIL = "In both directions; 0 ends it. Messages in flight are met too."

COMMANDS = (
    Command(
        "failNode",
        Group.FAULTS,
        "kill a node's process at once, as kill -9 does",
        fail_node,
        (_NODE,),
        (JSON,),
        detail="Nothing is flushed and nobody is told. It stays down until fixNode or heal.",
        example="failNode 1",
        changes=True,
    ),
    Command(
        "fixNode",
        Group.FAULTS,
        "start the node again from its own disk",
        fix_node,
        (_NODE,),
        (JSON,),
        detail="What it missed it learns from the other nodes.",
        example="fixNode 1",
        changes=True,
    ),
    Command(
        "failLink",
        Group.FAULTS,
        "let nothing pass between two nodes, or from A to B only",
        fail_link,
        _LINK,
        (Flag("one_way"), JSON),
        detail="Messages in flight over the link are lost.",
        example="failLink 1 2 --one-way",
        changes=True,
    ),
    Command(
        "fixLink",
        Group.FAULTS,
        "let messages pass between two nodes again",
        fix_link,
        _LINK,
        (Flag("one_way"), JSON),
        detail="Its delay, drop, duplicate and reorder end too, except with --one-way.",
        example="fixLink 1 2",
        changes=True,
    ),
    Command(
        "partition",
        Group.FAULTS,
        "cut all links between groups of nodes",
        partition,
        (Parameter("groups", NODES, repeated=True),),
        (JSON,),
        detail="Nodes that are not named, and who joins, form a group together.",
        example="partition 1,2 3",
        changes=True,
    ),
    Command(
        "isolate",
        Group.FAULTS,
        "cut a node off from every other; it lives on",
        isolate,
        (_NODE,),
        (JSON,),
        example="isolate 3",
        changes=True,
    ),
    Command(
        "heal",
        Group.FAULTS,
        "lift every fault of the network",
        heal,
        flags=(JSON,),
        detail="Nodes that are down are started again too.",
        example="heal",
        changes=True,
    ),
    Command(
        "delay",
        Group.FAULTS,
        "hold the messages between two nodes back",
        delay,
        (
            *_LINK,
            Parameter("ms", MILLISECONDS),
            Parameter("jitter", MILLISECONDS, True, metavar="JITTER"),
        ),
        (JSON,),
        detail="In both directions, in milliseconds, more or less by up to JITTER; 0 ends it.",
        example="delay 1 2 80 20",
        changes=True,
    ),
    Command(
        "drop",
        Group.FAULTS,
        "lose a percentage of the messages between two nodes",
        drop,
        _PERCENT,
        (JSON,),
        detail=_PERCENT_DETAIL,
        example="drop 1 2 30",
        changes=True,
    ),
    Command(
        "duplicate",
        Group.FAULTS,
        "deliver a percentage of the messages twice",
        duplicate,
        _PERCENT,
        (JSON,),
        detail=_PERCENT_DETAIL,
        example="duplicate 1 2 10",
        changes=True,
    ),
    Command(
        "reorder",
        Group.FAULTS,
        "let a percentage of the messages be overtaken",
        reorder,
        _PERCENT,
        (JSON,),
        detail=_PERCENT_DETAIL,
        example="reorder 1 2 25",
        changes=True,
    ),
    Command(
        "faults",
        Group.FAULTS,
        "list the faults that are injected now",
        list_faults,
        flags=(JSON,),
        example="faults",
    ),
)
