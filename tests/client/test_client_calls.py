"""Commands and reads against nodes that refuse, drop, delay and die."""

from __future__ import annotations

import asyncio

import pytest

from consensusllm.client import (
    AlreadyExists,
    Client,
    Conflict,
    Conversation,
    GenerationOptions,
    InvalidRequest,
    NotAnswered,
    NotFound,
    OutcomeUnknown,
    Status,
    Unauthenticated,
    Unavailable,
)
from consensusllm.client import session as session_
from consensusllm.client.pipeline import Pipeline
from consensusllm.conversations import (
    Code,
    CompareAndSwap,
    Done,
    Limits,
    OpenSession,
    Put,
    Refused,
    SessionCommand,
)
from consensusllm.wire.generated import client_pb2
from tests.client.asked import answer_all, applied, sent, until

Failure = client_pb2.Failure


# What the calls do ----------------------------------------------------------------------------


async def test_a_conversation_from_its_creation_to_a_choice(start_cluster):
    cluster = await start_cluster(3)
    cluster.on_turn = lambda *turn: answer_all(cluster, *turn)
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        turn = await client.query("c1", "What is\nPaxos? 🙂", options=GenerationOptions(seed=3))
        assert [(each.number, each.node, each.model, each.text) for each in turn.candidates] == [
            (number, number, f"model-{number}", f"answer {number}") for number in (1, 2, 3)
        ]
        chosen = await client.choose("c1", 2)
        assert (chosen.turn, chosen.candidate) == (1, 2)
        seen = await client.view("c1")
        assert seen.turns[0].question == "What is\nPaxos? 🙂"
        assert seen.turns[0].choice == 2
        assert await client.ask("c1", "And Raft?") == 2
        await client.fork("c1", "c2", 1)
        await client.rename("c2", "c3")
        assert [(each.conversation, each.turns) for each in await client.conversations()] == [
            ("c1", 2),
            ("c3", 1),
        ]
        await client.delete("c3")
        with pytest.raises(NotFound):
            await client.view("c3", stale=True)


async def test_a_query_that_does_not_wait_returns_the_open_turn(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        turn = await client.query("c1", "q", wait=False, deadline_ms=5000)
    assert not turn.closed
    assert [each.ended for each in turn.candidates] == [False]


async def test_keys_are_put_read_swapped_listed_and_deleted(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        assert await client.get("k") is None
        await client.put("k", b"v")
        await client.compare_and_swap("k", b"v", b"w")
        assert await client.get("k") == b"w"
        with pytest.raises(Conflict) as conflict:
            await client.compare_and_swap("k", b"v", b"x")
        assert conflict.value.current == b"w"
        for number in range(5):
            await client.put(f"p{number}", b"")
        assert await client.keys("p") == [f"p{number}" for number in range(5)]
        assert await client.keys("p", after="p0", limit=3) == ["p1", "p2", "p3"]
        await client.delete_key("k")
        with pytest.raises(NotFound):
            await client.delete_key("k")


async def test_lists_of_conversations_are_paged_through(start_cluster):
    cluster = await start_cluster()
    names = [f"c{number}" for number in range(5)]
    async with Client(cluster.addresses) as client:
        for name in names:
            await client.create(name)
        assert [each.conversation for each in await client.conversations()] == names
        some = await client.conversations(after="c0", limit=3, stale=True)
        assert [each.conversation for each in some] == names[1:4]


async def test_refusals_have_errors_of_their_own(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(AlreadyExists, match="c1"):
            await client.create("c1")
        with pytest.raises(NotFound, match="c9"):
            await client.ask("c9", "q")
        turn = await client.ask("c1", "q")
        with pytest.raises(NotAnswered):
            await client.choose("c1", 1)
        answer_all(cluster, "c1", turn, [1])
        await client.choose("c1", 1)
        with pytest.raises(Conflict) as conflict:
            await client.choose("c1", 1, turn)
        assert (conflict.value.turn, conflict.value.winner) == (1, 1)
        with pytest.raises(Conflict):
            await client.retry("c1")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.create("a b"),
        lambda client: client.create(""),
        lambda client: client.create("x" * 65),
        lambda client: client.rename("c1", "ü"),
        lambda client: client.view("../c1"),
        lambda client: client.ask("c1", ""),
        lambda client: client.ask("c1", "x" * (5 << 20)),
        lambda client: client.ask("c1", "\ud800"),
        lambda client: client.ask("c1", "q", deadline_ms=-1),
        lambda client: client.ask("c1", "q", options=GenerationOptions(max_tokens=-1)),
        lambda client: client.choose("c1", -1),
        lambda client: client.put("", b""),
        lambda client: client.put("k" * 513, b""),
        lambda client: client.put("k", b"x" * ((1 << 20) + 1)),
        lambda client: client.put("k", "text"),
        lambda client: client.get("k", timeout_s=0),
        lambda client: client.import_conversation(Conversation("c1", 1, ()), "no id"),
    ],
)
async def test_what_can_never_succeed_is_refused_before_anything_is_sent(start_cluster, call):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        with pytest.raises(InvalidRequest):
            await call(client)
    assert cluster.nodes[0].streams == 0


@pytest.mark.parametrize(
    ("addresses", "options"),
    [
        ([], {}),
        ("127.0.0.1:1", {}),
        (["127.0.0.1"], {}),
        (["127.0.0.1:1", "127.0.0.1:2"], {"pinned": True}),
        (["127.0.0.1:1"], {"token": "two\nlines"}),
    ],
)
def test_a_client_that_can_never_work_is_refused(addresses, options):
    with pytest.raises(InvalidRequest):
        Client(addresses, **options)


# Exactly once ---------------------------------------------------------------------------------


async def test_no_command_happens_twice_or_never_however_its_answers_are_lost(start_cluster):
    cluster = await start_cluster(3)
    async with Client(cluster.addresses) as client:
        for node in cluster.nodes:
            for _ in range(10):
                node.fault("cut", applied=True)
                node.fault("cut")
                node.fault(Failure.UNKNOWN, applied=True)
                node.fault(Failure.OVERLOADED, retry_after_ms=1)
                node.fault(Failure.NO_QUORUM)
        for count in range(40):  # a second application of any of these is a Conflict
            before = None if count == 0 else b"%d" % count
            await client.compare_and_swap("n", before, b"%d" % (count + 1))
            cluster.leader = count % 3 + 1
        assert await client.get("n") == b"40"
    swaps = {(each.session, each.sequence) for each in applied(cluster, CompareAndSwap)}
    assert len(swaps) == 40
    assert len(applied(cluster, CompareAndSwap)) > 40, "no answer was lost, so nothing was shown"


async def test_a_lost_answer_to_create_is_not_taken_for_a_conversation_that_exists(start_cluster):
    cluster = await start_cluster()
    cluster.nodes[0].fault("cut", applied=True)
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        cluster.nodes[0].fault("cut", applied=True)
        assert await client.ask("c1", "q") == 1
        assert len((await client.view("c1")).turns) == 1


async def test_acknowledged_is_the_lowest_number_that_is_not_finished(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: command.operation.key == "held"
    node.fault("silent")
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        held = asyncio.create_task(client.put("held", b""))
        await until(lambda: len(sent(node, Put)) == 2)
        await client.put("b", b"")
        await client.put("c", b"")
        numbers = [(each.sequence, each.acknowledged) for each in sent(node, Put)]
        assert numbers == [(1, 1), (2, 2), (3, 2), (4, 2)]
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        await client.put("d", b"")
        assert (sent(node, Put)[-1].sequence, sent(node, Put)[-1].acknowledged) == (5, 5)
        late = sent(node, Put)[1]
        refused = cluster.apply(late)
    assert isinstance(refused, Refused)
    assert refused.code is Code.STALE
    assert cluster.machine.get("held") is None


async def test_a_command_that_is_held_up_does_not_fill_the_sessions_memory(
    start_cluster, monkeypatch
):
    monkeypatch.setattr(session_, "NUMBERS_MAX", 5)
    cluster = await start_cluster(limits=Limits(replies_per_session=6))
    node = cluster.nodes[0]
    node.faulty = lambda command: command.operation.key == "held"
    node.fault("silent")
    async with Client(cluster.addresses) as client:
        held = asyncio.create_task(client.put("held", b"", timeout_s=60))
        await until(lambda: len(sent(node, Put)) == 1)
        for number in range(20):
            await client.put(f"k{number}", b"")
        held.cancel()
    assert len(applied(cluster, OpenSession)) == 2


async def test_nor_do_those_that_are_begun_beside_it_at_once(start_cluster, monkeypatch):
    monkeypatch.setattr(session_, "NUMBERS_MAX", 30)
    monkeypatch.setattr("consensusllm.client.calls.TRY_S", 1.0)
    monkeypatch.setitem(Pipeline.__init__.__kwdefaults__, "outstanding_max", 10)
    cluster = await start_cluster(limits=Limits(replies_per_session=40))
    node = cluster.nodes[0]
    async with Client(cluster.addresses) as client:
        await client.put("before", b"")
        node.faulty = lambda command: getattr(command.operation, "key", "") == "held"
        node.fault("silent")
        held = asyncio.create_task(client.put("held", b"", timeout_s=60))
        await node.faced.wait()
        await asyncio.gather(*(client.put(f"k{number}", b"") for number in range(200)))
        assert not [each for each in applied(cluster, Put) if each.operation.key == "held"]
        await held  # its next try finds the session as it was
    assert cluster.machine.counts().keys == 202
    assert len(applied(cluster, OpenSession)) > 2


async def test_a_session_that_is_full_of_replies_is_left_for_a_fresh_one(start_cluster):
    cluster = await start_cluster(limits=Limits(reply_bytes_per_session=1000))
    async with Client(cluster.addresses) as client:
        await client.put("k", bytes(600))
        calls = [client.compare_and_swap("k", b"another", b"") for _ in range(9)]
        calls.append(client.put("other", b""))
        *conflicts, done = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in conflicts} == {Conflict}
    assert done is None
    assert len(applied(cluster, OpenSession)) > 1


async def test_commands_that_waited_for_room_acknowledge_what_finished_meanwhile(
    start_cluster, monkeypatch
):
    monkeypatch.setitem(Pipeline.__init__.__kwdefaults__, "outstanding_max", 10)
    cluster = await start_cluster(limits=Limits(replies_per_session=40))
    async with Client(cluster.addresses) as client:
        await asyncio.gather(*(client.put(f"k{number}", b"") for number in range(200)))
    assert cluster.machine.counts().keys == 200
    assert len(applied(cluster, OpenSession)) == 1


# The session is forgotten ---------------------------------------------------------------------


async def test_after_its_session_was_forgotten_a_client_goes_on_in_a_fresh_one(start_cluster):
    cluster = await start_cluster(limits=Limits(sessions=1))
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        cluster.apply(SessionCommand(b"another-client-s", 0, 0, OpenSession()))
        await asyncio.gather(*(client.put(f"k{number}", b"") for number in range(10)))
        assert len(await client.keys()) == 11
    assert len(applied(cluster, OpenSession)) == 3


async def test_a_command_that_was_sent_before_its_session_was_forgotten_is_unknown(start_cluster):
    cluster = await start_cluster(2, limits=Limits(sessions=1))
    first, second = cluster.nodes
    second.always_fault(Failure.NOT_LEADER)
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        first.fault("cut", applied=True)
        pending = asyncio.create_task(client.put("b", b""))
        await until(lambda: cluster.machine.get("b") is not None)
        cluster.apply(SessionCommand(b"another-client-s", 0, 0, OpenSession()))
        with pytest.raises(OutcomeUnknown, match="forgotten"):
            await pending
        await client.put("c", b"")


async def test_a_cluster_that_numbers_no_sessions_is_of_another_version(start_cluster):
    cluster = await start_cluster()
    cluster.apply = lambda command: Done()
    async with Client(cluster.addresses) as client:
        with pytest.raises(InvalidRequest, match="install the version that the nodes run"):
            await client.put("a", b"")


# Where calls go -------------------------------------------------------------------------------


async def test_a_hint_to_the_leader_is_followed_and_kept(start_cluster):
    cluster = await start_cluster(3)
    cluster.leader = 3
    first, second, third = cluster.nodes
    async with Client([first.address, second.address]) as client:
        await client.put("a", b"")
        refused = len(first.requests)
        await client.put("b", b"")
        assert client.address == third.address
    assert len(first.requests) == refused == 1
    assert second.streams == 0
    assert len(applied(cluster, Put)) == 2


async def test_without_a_hint_the_next_node_is_asked(start_cluster):
    cluster = await start_cluster(3)
    cluster.leader = 3
    for node in cluster.nodes[:2]:
        node.faulty = lambda command: True
        node.always_fault(Failure.NOT_LEADER)
    async with Client(cluster.addresses) as client:
        assert await client.get("a") is None


async def test_a_dead_node_is_left_and_a_revived_one_is_found(start_cluster):
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    async with Client(cluster.addresses) as client:
        await client.put("a", b"1")
        await first.die()
        cluster.leader = 2
        await client.put("a", b"2")
        assert client.address == second.address
        await second.die()
        cluster.leader = 1
        await first.start()
        assert await client.get("a") == b"2"


async def test_a_pinned_client_never_roams(start_cluster):
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    cluster.leader = 2
    async with Client([first.address], pinned=True) as client:
        with pytest.raises(Unavailable):
            await client.get("a", timeout_s=0.3)
        cluster.leader = 1
        await client.put("a", b"")
        await first.die()
        with pytest.raises(Unavailable):
            await client.get("a", timeout_s=0.3)
        with pytest.raises(Unavailable):
            await client.status()
    assert second.streams == 0


# Tokens and status ----------------------------------------------------------------------------


async def test_the_token_is_shown_to_the_nodes(start_cluster):
    cluster = await start_cluster(token="s3cret")
    cluster.on_turn = lambda *turn: answer_all(cluster, *turn)
    async with Client(cluster.addresses, token="s3cret") as client:
        await client.create("c1")
        await client.query("c1", "q")
        assert (await client.status()).node == 1


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_wrong_token_is_told_at_once(start_cluster, token):
    cluster = await start_cluster(token="s3cret")
    async with Client(cluster.addresses, token=token) as client:
        for call in (client.put("k", b""), client.get("k"), client.status()):
            with pytest.raises(Unauthenticated, match="in CONSENSUSLLM_CLIENT_TOKEN"):
                await call
        with pytest.raises(Unauthenticated):
            async for _ in client.watch("c1", 1):
                pass


async def test_status_of_one_node_and_of_all(start_cluster):
    cluster = await start_cluster(3)
    await cluster.nodes[0].die()
    async with Client(cluster.addresses, timeout_s=5) as client:
        status = await client.status()
        assert status.node == 2
        assert (status.role, status.leader) == ("follower", 1)
        assert status.members[0].live
        assert status.models[0].provider == "builtin"
        assert (await client.status(cluster.addresses[2])).node == 3
        with pytest.raises(Unavailable, match="start the node"):
            await client.status(cluster.addresses[0])
        found = await client.statuses()
    assert list(found) == cluster.addresses
    assert isinstance(found[cluster.addresses[0]], Unavailable)
    assert all(isinstance(found[address], Status) for address in cluster.addresses[1:])
