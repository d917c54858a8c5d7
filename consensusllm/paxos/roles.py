"""The roles of a replica and every way from one to another, as a table.

`docs/PROTOCOL.md` draws its state diagram from `TRANSITIONS`; a pair that is not in the table is a
bug in the core, and stops it.
"""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """What a replica is doing. LEARNING: it is new or lost its disk, and may not vote yet."""

    LEARNING = "learning"
    FOLLOWING = "following"
    PREPARING = "preparing"
    LEADING = "leading"


class Event(Enum):
    """Why a replica changes its role."""

    ADMITTED = "a leader fenced the lost life, and all that it could have voted on is learned"
    PROMOTED = "it has joined: the members made it one that votes"
    PRE_VOTE_WON = "a quorum hears no leader and would promise"
    PROMISED_BY_QUORUM = "a quorum promised"
    HIGHER_BALLOT = "a higher ballot was seen"
    QUORUM_LOST = "no quorum was heard for long enough"
    DISK_SILENT = "its own disk has ended no write for long"
    OVERTAKEN = "a snapshot goes beyond what it knew to be chosen: others may lead above its ballot"
    COMPACTED = "an acceptor answered that its log begins later: install its snapshot first"
    HANDING_OVER = "asked to: the successor prepares at once"
    HANDED_OVER = "the leader handed over to this node"
    RECONFIGURED = "the members changed: go on in a ballot of the new ones"
    REMOVED = "the members changed, and this node is none of them"
    FENCING = "a member came back without its disk: fence its old life in a new ballot"
    FENCED = "this life is fenced, as that of a lost disk, and yet lives: begin another"


class NotLeader(Exception):
    """This node does not lead; ``leader`` is whom it believes to (None: it knows of none)."""

    def __init__(self, leader: int | None) -> None:
        super().__init__(f"not the leader; {leader or 'nobody'} is believed to be")
        self.leader = leader


TRANSITIONS: dict[tuple[Role, Event], Role] = {
    (Role.LEARNING, Event.ADMITTED): Role.FOLLOWING,
    (Role.LEARNING, Event.PROMOTED): Role.FOLLOWING,
    (Role.FOLLOWING, Event.PRE_VOTE_WON): Role.PREPARING,
    (Role.FOLLOWING, Event.HANDED_OVER): Role.PREPARING,
    (Role.FOLLOWING, Event.FENCED): Role.LEARNING,
    (Role.PREPARING, Event.PROMISED_BY_QUORUM): Role.LEADING,
    (Role.PREPARING, Event.HIGHER_BALLOT): Role.FOLLOWING,
    (Role.PREPARING, Event.QUORUM_LOST): Role.FOLLOWING,
    (Role.PREPARING, Event.COMPACTED): Role.FOLLOWING,
    (Role.PREPARING, Event.RECONFIGURED): Role.PREPARING,
    (Role.PREPARING, Event.REMOVED): Role.FOLLOWING,
    (Role.PREPARING, Event.FENCED): Role.LEARNING,
    (Role.LEADING, Event.HIGHER_BALLOT): Role.FOLLOWING,
    (Role.LEADING, Event.QUORUM_LOST): Role.FOLLOWING,
    (Role.LEADING, Event.DISK_SILENT): Role.FOLLOWING,
    (Role.LEADING, Event.OVERTAKEN): Role.FOLLOWING,
    (Role.LEADING, Event.HANDING_OVER): Role.FOLLOWING,
    (Role.LEADING, Event.FENCING): Role.PREPARING,
    (Role.LEADING, Event.RECONFIGURED): Role.PREPARING,
    (Role.LEADING, Event.REMOVED): Role.FOLLOWING,
    (Role.LEADING, Event.FENCED): Role.LEARNING,
}
