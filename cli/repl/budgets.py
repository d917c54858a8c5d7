"""The command on budgets."""

from __future__ import annotations

import re
from dataclasses import asdict

from consensusllm.client import money

from .documents import print_json
from .language import JSON, WORD, Command, Group, Parameter
from .lexer import Misuse
from .session import Session

_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?")
NONE = "none"


async def budget(session: Session, scope: str = "", limit: str = "", json: bool = False) -> None:
    if limit:
        await session.client.set_budget(scope, None if limit == NONE else _millionths(limit))
    budgets = await session.client.budgets()
    if json:
        print_json(
            session.output,
            [
                {"scope": name, **{part: money(left) for part, left in asdict(each).items()}}
                for name, each in sorted(budgets.items())
                if scope in ("", name)
            ],
        )
        return
    if scope and scope not in budgets:
        session.output.line(f"{scope} has no budget")
        return
    if not budgets:
        session.output.line("no budgets: budget cluster 5.00 sets one for all")
        return
    session.output.table(
        ["scope", "limit", "spent", "reserved", "left"],
        [
            [
                name,
                money(each.limit),
                money(each.spent),
                money(each.reserved),
                money(max(0, each.limit - each.spent - each.reserved)),
            ]
            for name, each in sorted(budgets.items())
            if scope in ("", name)
        ],
    )


def _millionths(amount: str) -> int:
    match = _AMOUNT.fullmatch(amount)
    if match is None:
        raise Misuse(
            f"{amount!r} is no amount: give one such as 5 or 0.25, with up to six digits behind "
            f"the point, or {NONE}"
        )
    return int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0"))


COMMANDS = (
    Command(
        "budget",
        Group.CLUSTER,
        "show what may be spent on models, or bound it",
        budget,
        (
            Parameter("scope", WORD, optional=True, metavar="SCOPE"),
            Parameter("limit", WORD, optional=True, metavar="LIMIT"),
        ),
        (JSON,),
        detail=(
            "A scope is cluster, conversation:ID or user:NAME; the last counts queries with --user "
            "NAME. A query reserves what it can cost at most, and is refused where a budget does "
            "not allow that; what it did cost is settled when it has ended. LIMIT is in the "
            "currency of the models' prices; none takes the bound away, and what was spent with "
            "it: a budget counts from when it is set, and goes on where its limit is changed."
        ),
        example="budget conversation:c1 0.50",
        changes=True,
    ),
)
