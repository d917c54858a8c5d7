"""What all calls of a client share: one command, or one read, within its deadline."""

from __future__ import annotations

from collections.abc import Coroutine

from consensusllm.client.calls import Calls, Deadline
from consensusllm.client.session import Session
from consensusllm.conversations.commands import Operation
from consensusllm.wire.generated import client_pb2


class BaseCalls:
    _timeout_s: float
    _calls: Calls
    _session: Session

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _command(
        self, operation: Operation, timeout_s: float | None
    ) -> Coroutine[None, None, object]:
        return self._session.command(operation, self._deadline(timeout_s))

    async def _read(self, read: client_pb2.Read, timeout_s: float | None) -> client_pb2.ReadReply:
        response, _ = await self._calls.answered(
            lambda: client_pb2.Request(read=read), self._deadline(timeout_s), changes=False
        )
        return response.read
