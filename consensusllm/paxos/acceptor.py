"""The acceptor: what it promised, what it voted for, and the answers that follow from that.

Paxos Made Simple, section 2.2, for all slots at once. It never asks who deserves to lead; it keeps
its promises, makes every one durable before it is seen, and answers what it refuses.
"""

from __future__ import annotations

import itertools

from .ballot import Ballot
from .config import PaxosConfig
from .lease import Grant
from .log import Log
from .messages import Accept, Accepted, Compacted, Entry, Incarnations, Nack, Prepare, Promise
from .outbox import Outbox
from .quorum import Fence
from .ready import Recovered


class Acceptor:
    def __init__(
        self, config: PaxosConfig, recovered: Recovered, log: Log, outbox: Outbox, now: float
    ) -> None:
        self._config = config
        self._log = log
        self._outbox = outbox
        self.promised = recovered.promised
        self.fence = Fence(recovered.incarnations)
        self.incarnation = recovered.incarnation
        self.voting = recovered.voting
        self.grant = Grant(config, now)

    def on_prepare(self, prepare: Prepare, now: float) -> bool:
        """Promise, or refuse. Whether the promise was given. While a lease binds there is no
        answer: the proposer asks again.

        One chunk is answered at a time: the proposer asks for the next with a higher op_num. What
        was accepted below the new promise cannot change in between, because it was promised.
        """
        ballot = prepare.ballot
        if not self.voting:
            return False
        if dict(prepare.incarnations).get(self._config.node, 0) > self.incarnation:
            self.learn_fence(prepare.incarnations)  # this life has ended: see `fenced`
            return False
        if ballot < self.promised:
            self._refuse(prepare.sender, ballot)
            return False
        if self.grant.binds(ballot.pid, now):
            return False
        if ballot.op_num <= self._log.compacted_through:
            self._outbox.send(
                prepare.sender, Compacted(self._config.node, self._log.compacted_through)
            )
            return False
        self._raise_promise(ballot, prepare.incarnations)
        entries, next_slot = self._log.chunk(
            ballot.op_num, self._log.last_slot, self._config.chunk_bytes
        )
        self._outbox.send_durable(
            prepare.sender,
            Promise(
                self._config.node,
                ballot,
                tuple(entries),
                self._log.chosen_through,
                next_slot,
                self.incarnation,
                self.fence.pairs(),
            ),
        )
        return True

    def on_accept(self, accept: Accept) -> bool:
        """Vote, or refuse. Whether the ballot was not refused.

        A log that is over its bound votes for nothing that it does not hold until it has caught up
        and compacted; the leader does without, or waits.
        """
        ballot = accept.ballot
        if not self.voting:
            return True
        if ballot < self.promised:
            self._refuse(accept.sender, ballot)
            return False
        self._raise_promise(ballot, ())
        own = accept.sender == self._config.node  # its proposer minds the bound
        full = self._log.size_bytes > self._config.max_log_bytes
        if full and not own and not self._holds(accept):
            return True
        slot = ballot.op_num
        for batch in accept.batches:
            if slot > self._log.compacted_through:
                self._hold(Entry(slot, ballot.at(slot), batch))
            slot += 1
        self._outbox.send_durable(
            accept.sender,
            Accepted(
                self._config.node,
                ballot,
                len(accept.batches),
                self._log.chosen_through,
                self.incarnation,
            ),
        )
        return True

    def _holds(self, accept: Accept) -> bool:
        """Whether a vote for it makes the log no larger. Else what two full logs hold alike, of a
        leader that died, could never be chosen, and so neither log compacted."""
        held = map(self._log.get, itertools.count(accept.ballot.op_num))
        return all(
            entry is not None and entry.batch == batch
            for batch, entry in zip(accept.batches, held, strict=False)
        )

    def learn(self, entry: Entry) -> None:
        """Hold an entry that a peer knows to be chosen, as if it had been accepted at its ballot.

        The peer's ballot is at least the one at which the value was chosen, and so is what is held
        here afterwards; a later Prepare therefore hears of it as of any vote.
        """
        if entry.slot > self._log.compacted_through:
            self._raise_promise(entry.ballot, ())
            self._hold(entry)

    def learn_fence(self, incarnations: Incarnations) -> None:
        """Raise the fence without a promise: a promiser told of a life that has ended."""
        self._raise_promise(self.promised, incarnations)

    def admit(self, ballot: Ballot, incarnations: Incarnations) -> None:
        """End a learner's abstention: the old life is fenced at ``ballot``, and everything that it
        could have voted on is learned."""
        assert not self.voting
        self.voting = True
        self.fence.raise_to(incarnations)
        self.promised = max(self.promised, ballot)
        self._outbox.record_promise(self.promised, self.fence.pairs())
        self._outbox.record_life(self.incarnation, True)

    @property
    def fenced(self) -> bool:
        """Whether this life has a vote that counts no more."""
        return self.voting and not self.fence.admits(self._config.node, self.incarnation)

    def abstain(self) -> None:
        """Vote no more, until `admit`. What was promised and accepted is kept all the same."""
        assert self.voting
        self.voting = False

    def renew_life(self, incarnation: int) -> None:
        """A learner's incarnation was not above the fence: take a higher one."""
        assert not self.voting
        assert incarnation > self.incarnation
        self.incarnation = incarnation
        self._outbox.record_life(incarnation, False)

    def _hold(self, entry: Entry) -> None:
        held = self._log.get(entry.slot)
        if held is None or held.ballot < entry.ballot:
            self._log.put(entry)
            self._outbox.record_entry(entry)
        elif held.ballot == entry.ballot:
            assert held.batch == entry.batch, f"two values at {entry.ballot} in slot {entry.slot}"

    def _raise_promise(self, ballot: Ballot, incarnations: Incarnations) -> None:
        fenced = self.fence.raise_to(incarnations)
        if ballot > self.promised or fenced:
            self.promised = max(self.promised, ballot)
            self._outbox.record_promise(self.promised, self.fence.pairs())

    def _refuse(self, proposer: int, ballot: Ballot) -> None:
        # The promise that the refusal reveals may not be durable yet, and must be.
        self._outbox.send_durable(proposer, Nack(self._config.node, ballot, self.promised))
