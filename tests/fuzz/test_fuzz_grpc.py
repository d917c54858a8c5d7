"""Random and mutated bytes at every method of every service of a real cluster.

Nothing but a clean refusal may come of it: no status that stands for an exception, no dead process,
no traceback in a log; and afterwards the cluster still serves and agrees.

Left out is only what would be obeyed: fault commands about nodes that there are, a hello of such a
node (it would take that node's place), and messages of a peer that are valid in every respect. What
a *lying* member says is outside what Paxos withstands; damage on the way is caught by the checksum
of each envelope.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from fuzzing import children, mutate, random_message
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from real_cluster import RealCluster

from consensusllm.transport.envelopes import checksum
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2, orchestrator_pb2, peer_pb2
from consensusllm.wire.peer import KINDS, decode_message

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLEAN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # the caller's own: a stream that is rightly open
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
ENDED_UNDER_A_WRITE = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What the *caller's* gRPC says where the server ended the call before the caller's next write, or
before it said that there is none."""

CALLS_AGAIN = 20
"""How often the same is sent where the caller's gRPC hides what the server said."""

PATIENCE_S = 0.2
"""How long a call may stay open; those that are rightly open are ended then."""

MEMBERS = {1, 2, 3}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["orchestrated", "direct"])
async def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RealCluster]:
    directory = tmp_path_factory.mktemp(request.param)
    async with RealCluster(directory, direct=request.param == "direct") as cluster:
        await cluster.all_up()
        yield cluster


def services(cluster: RealCluster) -> list[tuple[str, MethodDescriptor]]:
    """Every method that the cluster serves, with where: all of them answer to reflection."""
    node, network = cluster.addresses[1], cluster.orchestrator
    direct = "direct" in cluster.directory.name
    files: list[tuple[str, Any]] = [(node, client_pb2)]
    files += [(node, peer_pb2)] if direct else [(network, orchestrator_pb2)]
    files += [(node, health_pb2), (node, reflection_pb2), (network, health_pb2)]
    methods = [
        (address, method)
        for address, module in files
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    if direct:
        faults = orchestrator_pb2.DESCRIPTOR.services_by_name["Faults"]
        methods += [(network, method) for method in faults.methods]
    return methods


# What is sent ------------------------------------------------------------------------------------


def envelope(rng: random.Random) -> Message:
    """An envelope that a node takes in, with a body that it must refuse, or nearly such a one."""
    src, kind = rng.choice((2, 3)), rng.choice((*KINDS, "stream", "nonsense"))
    kind_of_body = peer_pb2.StreamMessage if kind == "stream" else peer_pb2.PeerMessage
    body = random_message(rng, kind_of_body.DESCRIPTOR).SerializeToString()
    if kind != "stream" or rng.random() < 0.5:
        body = mutate(rng, body)
    made = peer_pb2.Envelope(cluster_id="test", src=src, dst=1, kind=kind, body=body)
    made.checksum = checksum("test", src, 1, kind, body)
    if rng.random() < 0.3:
        setattr(made, *rng.choice([("src", 9), ("dst", 2), ("cluster_id", "no"), ("checksum", 1)]))
    return made


def request_of(rng: random.Random, kind: Descriptor) -> bytes:
    if kind.name == "Envelopes" and rng.random() < 0.7:
        some = [envelope(rng) for _ in range(rng.choice((1, 2, 9)))]
        return peer_pb2.Envelopes(envelopes=some).SerializeToString()
    if kind.name == "Requests" and rng.random() < 0.5:
        command = random_message(rng, client_pb2.SessionCommand.DESCRIPTOR)
        assert isinstance(command, client_pb2.SessionCommand)
        command.session = rng.randbytes(16 if command.HasField("open_session") else 24)
        request = client_pb2.Request(id=1, timeout_ms=50, command=command.SerializeToString())
        return client_pb2.Requests(requests=[request]).SerializeToString()
    return random_message(rng, kind).SerializeToString()


def numbers(message: Message) -> set[int]:
    """Every node that a fault command names."""
    found: set[int] = set()
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else (value,):
                found |= numbers(each)
        elif field.name in ("node", "nodes", "a", "b"):
            found |= set(value) if field.is_repeated else {value}
    return found


def obeyed(kind: Descriptor, data: bytes) -> bool:
    """Whether the cluster would, and should, do as these bytes say."""
    try:
        message = GetMessageClass(kind).FromString(data)
    except DecodeError:
        return False
    if isinstance(message, orchestrator_pb2.FaultRequest):
        return bool(numbers(message) & MEMBERS)
    if isinstance(message, orchestrator_pb2.FromNode):
        return message.hello.node in MEMBERS and message.hello.cluster_id == "test"
    if isinstance(message, orchestrator_pb2.ProcessReport):
        return bool(set(message.nodes) & MEMBERS)
    if isinstance(message, client_pb2.ChangeRequest):
        change = message.WhichOneof("change")
        return change is not None and getattr(message, change).node > 0
    if isinstance(message, peer_pb2.Envelopes):
        return any(map(_believed, message.envelopes))
    return False


def _believed(each: peer_pb2.Envelope) -> bool:
    expected = checksum(each.cluster_id, each.src, each.dst, each.kind, each.body)
    if each.checksum != expected or each.kind == "stream":
        return False
    try:
        decode_message(each.src, each.body)
    except MalformedMessage:
        return False
    return True


def same(data: bytes) -> bytes:
    return data


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, messages: list[bytes]
) -> tuple[grpc.StatusCode, str]:
    """How the call ends that sends ``messages`` and then no more."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    arity = {True: "stream", False: "unary"}
    name = f"{arity[method.client_streaming]}_{arity[method.server_streaming]}"
    make: Callable[..., Any] = getattr(channel, name)(path, same, same)
    try:
        if not method.client_streaming:
            call = make(messages[0], timeout=PATIENCE_S)
        else:
            call = make(timeout=PATIENCE_S)
            # It may have ended under the write; why is read below.
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.InternalError):
                for message in messages:
                    await call.write(message)
                await call.done_writing()
        if method.server_streaming:
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError:
        pass
    return await call.code(), await call.details() or ""


async def fuzz(cluster: RealCluster, seed: int, rounds: int) -> None:
    """``rounds`` calls of every method. The seed makes all that is sent, whatever comes back."""
    rng = random.Random(seed)
    gate = asyncio.Semaphore(16)
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
    channels = {
        address: grpc.aio.insecure_channel(address, options=options)
        for address in (cluster.addresses[1], cluster.orchestrator)
    }
    unclean: list[tuple[str, list[bytes], grpc.StatusCode, str]] = []

    async def one(address: str, method: MethodDescriptor, messages: list[bytes]) -> None:
        for _ in range(CALLS_AGAIN):
            async with gate:
                code, details = await outcome(channels[address], method, messages)
            if (code, details) != ENDED_UNDER_A_WRITE:
                break
            if len(messages) > 1:  # the first of them ends the call, again and again
                return
        if code not in CLEAN or "Traceback" in details or "Exception" in details:
            unclean.append((method.full_name, messages, code, details))

    calls = []
    for address, method in services(cluster):
        for _ in range(rounds):
            messages = []
            for _ in range(rng.choice((1, 1, 2, 4)) if method.client_streaming else 1):
                data = request_of(rng, method.input_type)
                messages.append(mutate(rng, data) if rng.random() < 0.6 else data)
            if not any(obeyed(method.input_type, data) for data in messages):
                calls.append(one(address, method, messages))
    await asyncio.gather(*calls)
    for channel in channels.values():
        await channel.close()
    assert unclean == [], unclean[:3]


async def check_afterwards(cluster: RealCluster, before: dict[int, str]) -> None:
    """It serves, it agrees, nobody died, and nothing was logged that looks like a bug."""
    client = cluster.client()
    await client.put("after", b"fuzz")
    assert await client.get("after") == b"fuzz"
    await cluster.all_up()
    await cluster.agreement()
    assert cluster.process is not None
    assert children(cluster.process.pid) == before
    for path in (cluster.data_dir / "logs").glob("*.log"):
        text = path.read_text()
        assert "Traceback" not in text, text[-3000:]
        assert "[error" not in text, text[-3000:]


@pytest.mark.parametrize(
    "rounds", [100, pytest.param(1500, marks=[pytest.mark.full, pytest.mark.timeout(3600)])]
)
async def test_whatever_is_sent_is_refused_cleanly_and_the_cluster_serves_on(
    cluster: RealCluster, seed: int, rounds: int
) -> None:
    print(f"CONSENSUSLLM_SEED={seed}")
    assert cluster.process is not None
    before = children(cluster.process.pid)
    assert len(before) == (3 if "direct" in cluster.directory.name else 4)
    await fuzz(cluster, seed + rounds, rounds)
    await check_afterwards(cluster, before)
