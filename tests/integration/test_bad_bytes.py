"""Bytes and messages of a stranger, over gRPC, are refused by a real cluster and change nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from edges import (
    OPTIONS,
    channel,
    no_log_holds_a_traceback,
    pipeline,
    state_hash,
)
from real_cluster import RealCluster

from consensusllm.conversations.commands import (
    OpenSession,
    Put,
    RecordCandidate,
    SessionCommand,
)
from consensusllm.paxos import Ballot
from consensusllm.paxos.messages import Prepare
from consensusllm.transport.envelopes import pack
from consensusllm.transport.port import Envelope
from consensusllm.wire.commands import encode_command
from consensusllm.wire.generated import client_pb2, orchestrator_pb2, peer_pb2
from consensusllm.wire.peer import encode_message, kind_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refusal(
    address: str, method: str, *messages: Any, streams: bool = True
) -> tuple[grpc.StatusCode, str]:
    """How the stream ends that sends ``messages``, which are bytes or protobuf. Not asked with
    grpc.aio: where a server ends a stream that is still being sent, it says INTERNAL at times, and
    not what the server said."""
    data = [each if isinstance(each, bytes) else each.SerializeToString() for each in messages]

    def ask() -> grpc.RpcError:
        with grpc.insecure_channel(address, options=OPTIONS) as raw:
            stream = raw.stream_stream(method)(iter(data)) if streams else None
            answers = raw.unary_stream(method)(data[0]) if stream is None else stream
            with pytest.raises(grpc.RpcError) as error:
                list(answers)
        return error.value

    error = await asyncio.to_thread(ask)
    return error.code(), error.details() or ""


async def test_bytes_that_are_no_message_are_refused_on_every_kind_of_call(
    cluster: RealCluster,
) -> None:
    before = await state_hash(cluster)
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "a message is not valid protobuf")
    node, network = cluster.addresses[2], cluster.orchestrator
    garbage = b"\xff\xff\xff\xff"
    for address, method, streams in (
        (node, "/consensusllm.client.v1.Client/Pipeline", True),
        (node, "/consensusllm.client.v1.Client/Watch", False),
        (node, "/consensusllm.client.v1.Client/GetStatus", False),
        (node, "/grpc.health.v1.Health/Check", False),
        (node, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
        (network, "/consensusllm.orchestrator.v1.Orchestrator/Attach", True),
        (network, "/consensusllm.orchestrator.v1.Faults/Inject", False),
        (network, "/consensusllm.orchestrator.v1.Faults/Trace", False),
        (network, "/consensusllm.orchestrator.v1.Faults/Processes", True),
    ):
        assert await refusal(address, method, garbage, streams=streams) == expected, method
    unknown = await refusal(node, "/consensusllm.client.v1.Client/NoSuchMethod", b"")
    assert unknown[0] is grpc.StatusCode.UNIMPLEMENTED
    assert await state_hash(cluster) == before


async def test_a_stranger_is_not_let_into_the_network(cluster: RealCluster) -> None:
    attach = "/consensusllm.orchestrator.v1.Orchestrator/Attach"
    hello = orchestrator_pb2.Hello
    faults = await cluster.faults.faults()

    async def attempt(*messages: orchestrator_pb2.FromNode) -> tuple[grpc.StatusCode, str]:
        return await refusal(cluster.orchestrator, attach, *messages)

    code, why = await attempt(orchestrator_pb2.FromNode(hello=hello(cluster_id="another", node=1)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "correct the cluster id" in why
    envelopes = peer_pb2.Envelopes(envelopes=[peer_pb2.Envelope(src=1, dst=2)])
    code, why = await attempt(orchestrator_pb2.FromNode(envelopes=envelopes))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "the first message of a stream is the hello" in why
    assert await cluster.faults.faults() == faults


async def test_who_is_no_member_may_attach_to_join_but_is_not_heard(cluster: RealCluster) -> None:
    before = await cluster.client().status()
    prepare = Prepare(9, Ballot(before.ballot_seq_num + 1_000, 9, 1), ())
    body = encode_message(prepare)
    envelopes = peer_pb2.Envelopes()
    sent = [Envelope(9, node, kind_of(prepare), body) for node in cluster.addresses]
    pack(envelopes, "test", sent)
    hello = orchestrator_pb2.Hello(cluster_id="test", node=9)
    async with channel(cluster.orchestrator) as raw:
        call = raw.stream_stream(
            "/consensusllm.orchestrator.v1.Orchestrator/Attach",
            request_serializer=orchestrator_pb2.FromNode.SerializeToString,
            response_deserializer=orchestrator_pb2.ToNode.FromString,
        )()
        await call.write(orchestrator_pb2.FromNode(hello=hello))
        await call.write(orchestrator_pb2.FromNode(envelopes=envelopes))
        await call.done_writing()
        async for _ in call:
            pass  # the orchestrator ends the stream once it has read it all
    await cluster.client().put("still", b"here")
    after = await cluster.client().status()
    assert after.ballot_seq_num == before.ballot_seq_num


async def test_commands_of_the_nodes_and_nonsense_are_refused_before_the_log(
    cluster: RealCluster,
) -> None:
    before = await state_hash(cluster)
    record = RecordCandidate("told", 1, 2, 1, "forged", "m", "stop")
    forged = encode_command(SessionCommand(b"s" * 24, 1, 1, record))
    short = client_pb2.Ask(session=b"short", conversation="told", question="q")
    name = b"s" * 16
    unnumbered = (
        SessionCommand(name, 0, 0, OpenSession(numbered=False)),
        SessionCommand(name, 1, 1, Put("k", b"v")),
    )
    responses = await pipeline(
        cluster,
        client_pb2.Request(id=1),
        client_pb2.Request(id=2, command=b"\xff\xff"),
        client_pb2.Request(id=3, command=b""),
        client_pb2.Request(id=4, command=forged),
        client_pb2.Request(id=5, ask=short),
        client_pb2.Request(id=6, read=client_pb2.Read()),
        *(
            client_pb2.Request(id=number, command=encode_command(command))
            for number, command in enumerate(unnumbered, 7)
        ),
        client_pb2.Request(id=9, ask=client_pb2.Ask(session=name, sequence=1, question="q")),
    )
    assert sorted(each.id for each in responses) == list(range(1, 10))
    assert all(each.failure.kind == client_pb2.Failure.INVALID for each in responses)
    assert all(each.failure.message for each in responses)
    for each in responses:
        assert (each.id in (5, 7, 8, 9)) == ("install the client of the" in each.failure.message)
    assert await state_hash(cluster) == before


async def test_no_log_holds_a_traceback(cluster: RealCluster) -> None:
    no_log_holds_a_traceback(cluster)
