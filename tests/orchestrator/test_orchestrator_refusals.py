"""What the orchestrator refuses on a stream, with which status, and that it goes on serving."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from async_timeout import timeout
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from consensusllm.orchestrator import FaultRefused, FaultsClient, serve_orchestrator
from consensusllm.transport import CannotListen, serving
from consensusllm.wire.generated import orchestrator_pb2 as pb
from consensusllm.wire.generated import orchestrator_pb2_grpc, peer_pb2


@pytest.fixture
async def channel(server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


def hello(node: int = 1, cluster_id: str = "c") -> pb.FromNode:
    return pb.FromNode(hello=pb.Hello(cluster_id=cluster_id, node=node, address="here"))


def envelopes(src: int = 1, dst: int = 2, cluster_id: str = "c", body: bytes = b"") -> pb.FromNode:
    one = peer_pb2.Envelope(cluster_id=cluster_id, src=src, dst=dst, kind="test", body=body)
    return pb.FromNode(envelopes=peer_pb2.Envelopes(envelopes=[one]))


async def attach(channel: grpc.aio.Channel, *messages: pb.FromNode) -> grpc.aio.StreamStreamCall:
    call = orchestrator_pb2_grpc.OrchestratorStub(channel).Attach()
    for message in messages:
        await call.write(message)
    return call


async def ended(call: grpc.aio.StreamStreamCall) -> tuple[grpc.StatusCode, str]:
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details()


@pytest.mark.parametrize(
    ("messages", "code", "line"),
    [
        ([hello(cluster_id="d")], grpc.StatusCode.FAILED_PRECONDITION, "is of cluster 'd'"),
        ([hello(0)], grpc.StatusCode.INVALID_ARGUMENT, "0 is no node: ids begin at 1"),
        ([envelopes()], grpc.StatusCode.INVALID_ARGUMENT, "first message of a stream is the hello"),
        ([pb.FromNode()], grpc.StatusCode.INVALID_ARGUMENT, "first message of a stream is the hel"),
        ([hello(), hello()], grpc.StatusCode.INVALID_ARGUMENT, "after the hello"),
        ([hello(), envelopes(src=3)], grpc.StatusCode.PERMISSION_DENIED, "as node 3"),
        ([hello(), envelopes(cluster_id="d")], grpc.StatusCode.PERMISSION_DENIED, "of cluster 'd'"),
        (
            [hello(), envelopes(body=bytes(70_000))],
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "larger than max",
        ),
    ],
)
async def test_a_bad_stream_ends_with_its_status(channel, messages, code, line) -> None:
    got_code, got_line = await ended(await attach(channel, *messages))
    assert got_code is code
    assert line in got_line
    healthy = await attach(channel, hello())
    assert await healthy.read() == pb.ToNode()
    healthy.cancel()


async def test_who_is_refused_again_and_again_is_told_of_once(channel) -> None:
    with capture_logs() as told:
        for node in (1, 1, 2, 1):
            await ended(await attach(channel, hello(node, cluster_id="d")))
    refused = [each["why"] for each in told if each["event"] == "refused a stream"]
    assert [why.partition(" is of")[0] for why in refused] == ["node 1", "node 2"]


@pytest.mark.parametrize("messages", [[], [hello().SerializeToString()]])
async def test_bytes_that_are_no_protobuf_end_the_stream(channel, messages) -> None:
    call = channel.stream_stream("/consensusllm.orchestrator.v1.Orchestrator/Attach")()
    for message in [*messages, b"\xff\xff\xff\xff"]:
        await call.write(message)
    assert await ended(call) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "a message is not valid protobuf",
    )


async def test_a_stream_that_ends_before_its_hello_is_refused(channel) -> None:
    call = await attach(channel)
    await call.done_writing()
    assert (await ended(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_newer_attach_of_a_node_ends_the_older(channel) -> None:
    older = await attach(channel, hello(2))
    assert await older.read() == pb.ToNode()
    newer = await attach(channel, hello(2))
    assert await newer.read() == pb.ToNode()
    code, line = await ended(older)
    assert code is grpc.StatusCode.ABORTED
    assert line == "node 2 attached again, as here"
    sender = await attach(channel, hello(1), envelopes(body=b"to the newer"))
    message = await newer.read()
    assert [one.body for one in message.envelopes.envelopes] == [b"to the newer"]
    newer.cancel()
    sender.cancel()


async def test_a_node_of_another_cluster_never_counts_as_connected(
    server, make_node, wait_until
) -> None:
    stranger, friend = make_node(server, 1, cluster_id="other"), make_node(server, 1)
    await stranger.start()
    await friend.start()
    await wait_until(friend.transport.connected, "the friend")
    assert not stranger.transport.connected()


@pytest.mark.parametrize("token", [None, "", "wrong", "sesame "])
async def test_without_the_right_token_no_fault_call_is_served(server, token) -> None:
    async with FaultsClient(server.address, token) as client:
        for call in (client.heal(), client.faults(), anext(client.trace()), client.fail_node(1)):
            with pytest.raises(FaultRefused, match="in CONSENSUSLLM_ORCHESTRATOR_TOKEN"):
                await call

        async def never(order: object) -> None:
            raise AssertionError

        with pytest.raises(FaultRefused, match="need the administration token"):
            await client.processes([1], never)


async def test_a_wrong_token_is_unauthenticated(server, channel) -> None:
    stub = orchestrator_pb2_grpc.FaultsStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Inject(
            pb.FaultRequest(heal=pb.Heal()), metadata=(("authorization", "Bearer nonsense"),)
        )
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_request_that_names_no_known_fault_is_refused(server, channel) -> None:
    stub = orchestrator_pb2_grpc.FaultsStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Inject(pb.FaultRequest(), metadata=(("authorization", "Bearer sesame"),))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_fault_for_another_cluster_is_refused_and_one_for_none_is_not(server) -> None:
    said = "^this orchestrator is of cluster 'c', not 'd': correct its address$"
    async with FaultsClient(server.address, "sesame", cluster_id="d") as client:
        for command in (client.isolate(1), client.fail_node(1), client.retire_node(1)):
            with pytest.raises(FaultRefused, match=said):
                await command
        assert (await client.faults()).faults == []
    for cluster_id in ("c", ""):
        async with FaultsClient(server.address, "sesame", cluster_id=cluster_id) as client:
            await client.isolate(1)
            assert (await client.faults()).faults
            await client.heal()


async def test_a_port_in_use_is_one_clear_line(server) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {server.address}: another process"):
        await serve_orchestrator(server.address, "c", (1, 2, 3))


async def test_health_and_reflection_are_served(channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="consensusllm.orchestrator.v1.Orchestrator")
    assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    reply = await call.read()
    call.cancel()
    assert {service.name for service in reply.list_services_response.service} == {
        "consensusllm.orchestrator.v1.Faults",
        "consensusllm.orchestrator.v1.Orchestrator",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_watches_of_health_are_bounded_as_no_token_is_asked_for(
    cluster, channel, monkeypatch
) -> None:
    monkeypatch.setattr(serving, "WATCHES_MAX", 2)
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    watches = [health.Watch(request) for _ in range(2)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(
        grpc.aio.AioRpcError, match="2 watch this server's health already"
    ) as caught:
        await health.Watch(request).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()

    async def watched() -> bool:
        try:
            return bool(await health.Watch(request).read())
        except grpc.aio.AioRpcError:
            return False

    async with timeout(10):
        while not await watched():
            pass  # the server hears of the end a little later
