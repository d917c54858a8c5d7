"""Read barriers, of this node's clients and of its peers', until they are answered.

All reads that come in one turn of the owner's loop share a barrier; the leader confirms it by a
round (or its lease), and it is answered when this replica has applied what the round was told of.
A barrier that no answer comes to is asked for again: that is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from consensusllm.paxos import NotLeader, PaxosNode, Ready
from consensusllm.paxos.messages import Message, ReadIndex, ReadIndexReply

from .outcomes import Failure
from .requests import PendingRead, Requests


class Barriers:
    """``requests`` keeps those of this node's clients until they are answered or expire; ``send``
    sends a message to a node."""

    def __init__(
        self,
        node: int,
        paxos: PaxosNode,
        requests: Requests,
        numbers: Iterator[int],
        send: Callable[[int, Message], None],
    ) -> None:
        self._node = node
        self._paxos = paxos
        self._reads = requests.reads
        self._numbers = numbers
        self._send = send
        self._gathering: PendingRead | None = None
        self._of_peers: dict[int, tuple[int, int]] = {}  # token -> (peer, its number)

    def add(self, deadline: float, resolve: Callable[[Failure | None], None]) -> None:
        """A read of this node's; see `Replica.read`."""
        if self._gathering is None:
            self._gathering = PendingRead(next(self._numbers))
            self._reads[self._gathering.token] = self._gathering
        self._gathering.waiting.append((deadline, resolve))

    def ask_gathered(self, now: float) -> None:
        """Nothing more joins what was gathered."""
        if self._gathering is not None:
            self._ask(self._gathering, now)
            self._gathering = None

    def ask_again(self, now: float, silence_s: float) -> None:
        """Ask for those that were not confirmed: at once where they were refused, else after
        ``silence_s``."""
        for read in self._reads.values():
            silent = now >= read.asked_at + silence_s
            if read.slot is None and (read.asked is None or silent):
                self._ask(read, now)

    def _ask(self, read: PendingRead, now: float) -> None:
        read.asked_at = now
        read.asked = None
        try:
            self._paxos.read(read.token, now)
            read.asked = self._node
        except NotLeader as refusal:
            if refusal.leader is not None:
                read.asked = refusal.leader
                self._send(refusal.leader, ReadIndex(self._node, read.token))

    def on_read_index(self, request: ReadIndex, now: float) -> None:
        token = next(self._numbers)
        try:
            self._paxos.read(token, now)
            self._of_peers[token] = (request.sender, request.number)
        except NotLeader:
            self._send(request.sender, ReadIndexReply(self._node, request.number, None))

    def on_read_index_reply(self, reply: ReadIndexReply, applied: int) -> None:
        read = self._reads.get(reply.number)
        if read is None or read.asked != reply.sender or read.slot is not None:
            return
        if reply.slot is None:
            read.asked = None
        else:
            read.slot = reply.slot
            self.serve(applied)

    def finish(self, ready: Ready, applied: int) -> None:
        """What the core has confirmed, and what it could not."""
        for token, slot in ready.reads:
            if token in self._of_peers:
                peer, number = self._of_peers.pop(token)
                self._send(peer, ReadIndexReply(self._node, number, slot))
            elif token in self._reads:
                self._reads[token].slot = slot
        for token in ready.failed_reads:
            if token in self._of_peers:
                peer, number = self._of_peers.pop(token)
                self._send(peer, ReadIndexReply(self._node, number, None))
            elif token in self._reads:
                self._reads[token].asked = None
        if ready.reads:
            self.serve(applied)

    def serve(self, applied: int) -> None:
        """Answer those that the state reflects, which is applied through slot ``applied``."""
        reads = self._reads
        for token in [t for t, r in reads.items() if r.slot is not None and r.slot <= applied]:
            reads.pop(token).answer(None)
