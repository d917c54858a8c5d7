"""What a node knows, for its owner to read: no part of the protocol."""

from __future__ import annotations

from .acceptor import Acceptor
from .admission import Admission
from .ballot import Ballot
from .config import PaxosConfig
from .election import Election
from .heartbeats import Heartbeats
from .learner import Learner
from .log import Log
from .membership import Configuration, Membership
from .proposer import Proposer
from .roles import Role


class Knowledge:
    """The part of `PaxosNode` that changes nothing."""

    config: PaxosConfig
    role: Role
    _now: float
    _live: tuple[int, ...]
    _log: Log
    _members: Configuration
    _acceptor: Acceptor
    _proposer: Proposer
    _learner: Learner
    _election: Election
    _heartbeats: Heartbeats
    _admission: Admission

    @property
    def leader(self) -> int | None:
        return self.config.node if self.role is Role.LEADING else self._election.leader

    @property
    def admits(self) -> bool:
        """Whether commands are taken here: it leads, or is about to."""
        return self.role in (Role.PREPARING, Role.LEADING)

    @property
    def ballot(self) -> Ballot:
        """The highest ballot that this node has promised."""
        return self._acceptor.promised

    @property
    def incarnation(self) -> int:
        return self._acceptor.incarnation

    @property
    def chosen_through(self) -> int:
        return self._log.chosen_through

    @property
    def known_through(self) -> int:
        """The highest slot that is known to be chosen anywhere: ahead while catching up."""
        return self._learner.known_through

    @property
    def receiving(self) -> tuple[int, int]:
        """See Learner.receiving."""
        return self._learner.receiving

    def ends_with_a_chunk(self, first_slot: int) -> bool:
        """Whether what is chosen from ``first_slot`` on is here, and is sent in one message."""
        if first_slot <= self._log.compacted_through:
            return False
        end, size_bytes = self._log.chosen_through, self.config.chunk_bytes
        return self._log.chunk(first_slot, end, size_bytes)[1] is None

    @property
    def log_first_slot(self) -> int:
        return self._log.compacted_through + 1

    @property
    def log_size_bytes(self) -> int:
        return self._log.size_bytes

    @property
    def pending(self) -> int:
        """Commands queued at this leader for a slot."""
        return self._proposer.pending

    @property
    def abandoned(self) -> int:
        """See Proposer.abandoned: while it stays, what was proposed here waits or has a slot."""
        return self._proposer.abandoned

    @property
    def installing(self) -> bool:
        """Whether a peer's snapshot is on its way here."""
        return self._learner.installing

    @property
    def membership(self) -> Membership:
        """The members in force for the next slot."""
        return self._members.membership

    @property
    def membership_slot(self) -> int:
        """The slot that chose them; 0: the cluster began with them."""
        return self._members.since

    @property
    def live(self) -> tuple[int, ...]:
        """Members that the leader hears, as far as this node knows; () while there is no leader."""
        if self.role is Role.LEADING:
            return self._heartbeats.live()
        return self._live if self.leader is not None else ()

    @property
    def patience_s(self) -> float:
        """For how long it bears with the silence of a majority, where it leads."""
        return self._heartbeats.patience_s

    def progress(self) -> dict[int, int]:
        """At the leader: how far each peer said that its prefix is chosen."""
        if self.role is not Role.LEADING:
            return {}
        joining = {node: one.chosen_through for node, one in self._admission.reports.items()}
        told = {**joining, **self._heartbeats.chosen_through}
        return {node: through for node, through in told.items() if node in self._members.peers}
