"""The part of etcd's gRPC API that is measured: Put, Range and Status, as three kinds of call.

It owns the few message types and fields of them that are used here, with the numbers that they have
in etcd's public API (v3; rpc.proto and kv.proto): protobuf skips the fields that are not described.
They are described to protobuf as the module is loaded, so that there is no generated file to keep.
"""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from consensusllm.client.nodes import CONNECTION_OPTIONS

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "consensusllm.bench.etcd"
_TYPES: dict[str, Any] = {
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "uint64": _Field.TYPE_UINT64,
}

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "PutRequest": {"key": (1, "bytes"), "value": (2, "bytes")},
    "PutResponse": {},
    "RangeRequest": {"key": (1, "bytes"), "serializable": (7, "bool")},
    "KeyValue": {"key": (1, "bytes"), "value": (5, "bytes")},
    "RangeResponse": {"kvs": (2, "KeyValue")},
    "StatusRequest": {},
    "ResponseHeader": {"member_id": (2, "uint64")},
    "StatusResponse": {
        "header": (1, "ResponseHeader"),
        "leader": (4, "uint64"),
        "raftAppliedIndex": (7, "uint64"),
    },
}
_REPEATED = {"kvs"}


def _described() -> dict[str, Any]:
    """The message classes, in a pool of their own so that they meet no other etcd's."""
    file = descriptor_pb2.FileDescriptorProto(
        name="consensusllm/bench/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = (
                _Field.LABEL_REPEATED if field_name in _REPEATED else _Field.LABEL_OPTIONAL
            )
            if kind in _MESSAGES:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = _TYPES[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _described()


class Member:
    """One member of an etcd cluster, over a connection of its own. Calls raise AioRpcError."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=CONNECTION_OPTIONS)
        self._put = self._method("KV/Put", "PutResponse")
        self._range = self._method("KV/Range", "RangeResponse")
        self._status = self._method("Maintenance/Status", "StatusResponse")
        self._PutRequest = _CLASSES["PutRequest"]
        self._RangeRequest = _CLASSES["RangeRequest"]

    def _method(self, name: str, answer: str) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.{name}",
            request_serializer=_serialized,
            response_deserializer=_CLASSES[answer].FromString,
        )

    async def put(self, key: str, value: bytes, timeout_s: float | None = None) -> None:
        await self._put(self._PutRequest(key=key.encode(), value=value), timeout=timeout_s)

    async def get(self, key: str) -> bytes | None:
        """The value as of now: linearizable, which is etcd's default."""
        answer = await self._range(self._RangeRequest(key=key.encode()))
        return answer.kvs[0].value if answer.kvs else None

    async def leads(self, timeout_s: float) -> bool:
        """Whether this member is the leader by its own account."""
        answer = await self._status(_CLASSES["StatusRequest"](), timeout=timeout_s)
        return bool(answer.leader) and answer.leader == answer.header.member_id

    async def applied(self, timeout_s: float) -> int:
        """The index of the last log entry that this member has applied."""
        answer = await self._status(_CLASSES["StatusRequest"](), timeout=timeout_s)
        return int(answer.raftAppliedIndex)

    async def close(self) -> None:
        await self._channel.close()


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
