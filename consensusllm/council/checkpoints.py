"""A running generation's text, put into the log from time to time.

What is recorded survives the node that produces it: another one goes on from there. It costs a
slot, so it is done at most once in CHECKPOINT_S, or sooner where much came, and never while the one
before is under way; who reads the text does not wait for it.
"""

from __future__ import annotations

import asyncio

from consensusllm.conversations.commands import RecordCheckpoint
from consensusllm.conversations.replies import Code, Refused

from .generation import Generation
from .port import ReplicaPort, SubmitFailed

CHECKPOINT_S = 1.0
CHECKPOINT_CHARACTERS = 800
"""Some 200 tokens."""


class Checkpoints:
    """Of ``generation``, whose recorded text has ``offset`` characters as it begins."""

    def __init__(self, port: ReplicaPort, generation: Generation, offset: int) -> None:
        self._port = port
        self._generation = generation
        self._offset = offset
        self._pieces: list[str] = []
        self._length = 0  # of all pieces, in characters
        self._timer: asyncio.TimerHandle | None = None
        self._recording: asyncio.Task[None] | None = None
        self._ended = False
        self._urgent = False

    def add(self, text: str) -> None:
        """``text`` continues the generation."""
        self._pieces.append(text)
        self._length += len(text)
        self._arm()

    def hurry(self) -> None:
        """Record the next text at once."""
        self._urgent = True

    def close(self) -> None:
        """Record no more. One that is under way may still land: it is fenced by the attempt."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._recording is not None:
            self._recording.cancel()

    def _arm(self) -> None:
        if self._recording is not None or self._ended or not self._pieces:
            return
        if self._urgent or self._length >= CHECKPOINT_CHARACTERS:
            self._urgent = False
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CHECKPOINT_S, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._recording = asyncio.create_task(self._record())
        self._recording.add_done_callback(self._recorded)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._recording = None
        if not task.cancelled():
            task.result()
            self._arm()

    async def _record(self) -> None:
        self._skip_recorded()
        text, self._pieces, self._length = "".join(self._pieces), [], 0
        if not text:
            return
        checkpoint = RecordCheckpoint(*self._generation, self._offset, text)
        try:
            reply = await self._port.submit(checkpoint)
        except SubmitFailed:
            # Whether it happened is unknown: the state will tell, before the next one.
            self._put_back(text)
            return
        if not isinstance(reply, Refused):
            self._offset += len(text)
        elif reply.code is Code.STALE:
            self._put_back(text)
        else:
            self._ended = True  # too long to be recorded at all, as its end will say

    def _put_back(self, text: str) -> None:
        self._pieces.insert(0, text)
        self._length += len(text)

    def _skip_recorded(self) -> None:
        """Leave out what an earlier try has recorded after all."""
        conversation, number, candidate_number, attempt = self._generation
        turn = self._port.machine.turn(conversation, number)
        candidate = turn.candidate(candidate_number) if turn is not None else None
        if candidate is None or candidate.ended or candidate.attempt != attempt:
            self._ended = True
            self._pieces, self._length = [], 0
            return
        recorded = len(candidate.text) - self._offset
        if recorded > 0:
            self._pieces = ["".join(self._pieces)[recorded:]]
            self._length -= recorded
            self._offset = len(candidate.text)
