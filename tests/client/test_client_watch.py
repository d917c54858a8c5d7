"""Reading a turn's text as it is written, over cuts, takeovers and nodes that are behind."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.client import (
    CandidateDone,
    Client,
    Conflict,
    Delta,
    NotFound,
    Takeover,
    TurnClosed,
    Unavailable,
)
from consensusllm.client import client as client_
from consensusllm.client import watch as watch_
from consensusllm.client.watch import Gap, Reader
from consensusllm.conversations import Candidate, TakenOver, Turn
from consensusllm.wire.generated import client_pb2
from consensusllm.wire.records import candidate_to_proto, turn_to_proto
from tests.client.asked import until

TEXT = "Paxos\nist 🙂 schön,\twirklich"


def delta(candidate, attempt, offset, text):
    return client_pb2.WatchEvent(
        delta=client_pb2.WatchDelta(
            candidate=candidate, attempt=attempt, offset=offset, text=text, node=1, model="m"
        )
    )


def takeover(candidate, attempt, offset=0):
    return client_pb2.WatchEvent(
        takeover=client_pb2.Takeover(candidate=candidate, attempt=attempt, node=2, offset=offset)
    )


def ended(number, attempt, text, kept=()):
    """``kept`` is what each attempt from the second on took over of the one before."""
    return Candidate(
        number,
        1,
        "m",
        attempt,
        ended=True,
        text=text,
        finish_reason="stop",
        takeovers=tuple(TakenOver(later, 1, each) for later, each in enumerate(kept, 2)),
    )


def done(candidate):
    return client_pb2.WatchEvent(candidate_done=candidate_to_proto(candidate))


def closed(*candidates):
    turn = Turn(1, "q", tuple(candidates), closed=True)
    return client_pb2.WatchEvent(turn_closed=turn_to_proto(turn))


def texts(events):
    """What a person sees of each candidate, and how often each one ended."""
    seen: dict[int, str] = {}
    ends: dict[int, int] = {}
    for event in events:
        if isinstance(event, Delta):
            assert event.offset == len(seen.get(event.candidate, ""))
            seen[event.candidate] = seen.get(event.candidate, "") + event.text
        elif isinstance(event, Takeover):
            seen[event.candidate] = seen.get(event.candidate, "")[: event.offset]
            assert len(seen[event.candidate]) == event.offset
        elif isinstance(event, CandidateDone):
            ends[event.candidate.number] = ends.get(event.candidate.number, 0) + 1
    return seen, ends


# The reader -----------------------------------------------------------------------------------


@given(
    written=st.dictionaries(
        st.integers(1, 3),
        st.lists(st.tuples(st.integers(0, 9), st.text(max_size=12)), min_size=1, max_size=4),
        min_size=1,
    ),
    data=st.data(),
)
def test_whatever_is_cut_or_repeated_each_character_is_read_once(written, data):
    """Connections that end anywhere, deltas of any size that begin anywhere before the position,
    attempts that keep some of the one before, that were missed, ends that come again: what is read
    is what was written."""
    attempts, kept = {}, {}
    for number, parts in written.items():
        texts_ = [parts[0][1]]
        kept[number] = []
        for keep, own in parts[1:]:
            kept[number].append(min(keep, len(texts_[-1])))
            texts_.append(texts_[-1][: kept[number][-1]] + own)
        attempts[number] = texts_
    reader = Reader()
    events = []
    progress = dict.fromkeys(attempts, 0)  # the attempt that is being written now
    for _ in range(data.draw(st.integers(0, 6), "connections")):
        at = {each.candidate: (each.attempt, each.offset) for each in reader.positions()}
        for _ in range(data.draw(st.integers(0, 6), "deltas")):
            number = data.draw(st.sampled_from(sorted(attempts)), "candidate")
            last = len(attempts[number]) - 1
            progress[number] = min(last, progress[number] + data.draw(st.integers(0, 1), "moved"))
            attempt = progress[number] + 1
            text = attempts[number][attempt - 1]
            known, offset = at.get(number, (attempt, 0))
            if known != attempt:
                shared = min(kept[number][known - 1 : attempt - 1])
                offset = min(offset, shared) if data.draw(st.booleans(), "announced") else 0
                if offset or data.draw(st.booleans(), "announced at 0"):
                    events += reader.receive(takeover(number, attempt, offset))
            start = data.draw(st.integers(0, offset), "start")
            end = data.draw(st.integers(start, len(text)), "end")
            events += reader.receive(delta(number, attempt, start, text[start:end]))
            at[number] = (attempt, max(offset, end))
        if data.draw(st.booleans(), "an end"):
            number = data.draw(st.sampled_from(sorted(attempts)), "ended")
            progress[number] = len(attempts[number]) - 1
            final = ended(number, len(attempts[number]), attempts[number][-1], kept[number])
            events += reader.receive(done(final))
            at[number] = (final.attempt, len(final.text))
    finals = [
        ended(number, len(each), each[-1], kept[number])
        for number, each in sorted(attempts.items())
    ]
    events += reader.receive(closed(*finals))
    seen, ends = texts(events)
    assert {number: seen.get(number, "") for number in attempts} == {
        number: each[-1] for number, each in attempts.items()
    }
    assert ends == dict.fromkeys(attempts, 1)
    assert isinstance(events[-1], TurnClosed)


def test_missing_text_is_noticed_and_the_position_is_kept():
    reader = Reader()
    list(reader.receive(delta(1, 1, 0, "ab")))
    with pytest.raises(Gap):
        list(reader.receive(delta(1, 1, 3, "d")))
    assert [(each.attempt, each.offset) for each in reader.positions()] == [(1, 2)]


def test_text_of_an_attempt_that_was_taken_over_is_dropped():
    reader = Reader()
    events = [
        *reader.receive(delta(1, 1, 0, "ab")),
        *reader.receive(delta(1, 2, 0, "x")),
        *reader.receive(takeover(1, 2)),
        *reader.receive(delta(1, 1, 2, "c")),
    ]
    assert events == [
        Delta(1, 1, 0, "ab", 1, "m"),
        Takeover(1, 2, 1, 0),
        Delta(1, 2, 0, "x", 1, "m"),
    ]


# Over real streams ----------------------------------------------------------------------------


def serve_with_cuts(text, attempt, cuts):
    """Serve one candidate from the reader's position on; each cut ends one stream there."""

    async def serve(request, context):
        offset = next((each.offset for each in request.positions if each.attempt == attempt), 0)
        cut = cuts.pop(0) if cuts else None
        while offset < len(text):
            if cut is not None and offset >= cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield delta(1, attempt, offset, text[offset])
            offset += 1
        if cut is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        final = ended(1, attempt, text)
        yield done(final)
        yield closed(final)

    return serve


async def test_a_stream_that_is_cut_at_any_character_is_resumed_on_another_node(start_cluster):
    cluster = await start_cluster(2)
    async with Client(cluster.addresses) as client:
        for cut in range(len(TEXT) + 1):
            for node in cluster.nodes:
                node.watches.clear()
            cuts = [cut]
            for node in cluster.nodes:
                node.serve_watch = serve_with_cuts(TEXT, 1, cuts)
            events = [event async for event in client.watch("c1", 1)]
            assert texts(events) == ({1: TEXT}, {1: 1})
            resumed = [each.offset for each in cluster.nodes[1].watches[0].positions]
            assert resumed == ([cut] if cut else [])
            assert len(cluster.nodes[0].watches) == 1


async def test_a_stream_that_is_cut_at_every_character_is_still_whole(start_cluster):
    cluster = await start_cluster(3)
    cuts = list(range(len(TEXT) + 1))
    for node in cluster.nodes:
        node.serve_watch = serve_with_cuts(TEXT, 1, cuts)
    async with Client(cluster.addresses) as client:
        events = [event async for event in client.watch("c1", 1)]
    assert texts(events) == ({1: TEXT}, {1: 1})
    assert not cuts


async def test_a_takeover_in_mid_text_is_marked_and_counts_anew(start_cluster):
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    first.serve_watch = serve_with_cuts("the first attempt", 1, [9])
    second.serve_watch = serve_with_cuts("another text", 2, [])
    async with Client(cluster.addresses) as client:
        events = [event async for event in client.watch("c1", 1)]
    assert Takeover(1, 2, 1, 0) in events
    before = events[: events.index(Takeover(1, 2, 1, 0))]
    assert texts(before) == ({1: "the first"}, {})
    assert texts(events) == ({1: "another text"}, {1: 1})
    assert second.watches[0].positions[0].attempt == 1


async def test_a_stream_yields_what_was_asked(start_cluster):
    cluster = await start_cluster(2)
    cluster.on_turn = lambda conversation, turn, candidates: [
        cluster.record(conversation, turn, number, f"answer {number}") for number in candidates
    ]
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        events = [event async for event in client.stream("c1", "q")]
    assert texts(events) == ({1: "answer 1", 2: "answer 2"}, {1: 1, 2: 1})
    assert isinstance(events[-1], TurnClosed)
    assert events[-1].turn.question == "q"


@pytest.mark.parametrize(("cancel", "error"), [(True, "cancelled"), (False, "")])
async def test_who_closes_a_stream_may_cancel_the_turn(start_cluster, cancel, error):
    cluster = await start_cluster()
    cluster.nodes[0].serve_watch = serve_with_cuts("never ends", 1, [5])
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        events = client.stream("c1", "q", cancel=cancel)
        assert isinstance(await anext(events), Delta)
        await events.aclose()
        turn = (await client.view("c1")).turns[0]
        assert turn.closed is cancel
        assert {each.error for each in turn.candidates} == {error}


async def test_a_turn_is_cancelled_once(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        await client.ask("c1", "q")
        await client.cancel("c1")
        with pytest.raises(Conflict):
            await client.cancel("c1", 1)
        with pytest.raises(NotFound):
            await client.cancel("c1", 2)


async def test_a_retry_is_not_taken_for_closed_by_a_node_that_has_not_seen_it(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        turn = await client.ask("c1", "q")
        cluster.record("c1", turn, 1, "", error="timed out")
        old = cluster.machine.turn("c1", turn)
        opened = await client.retry("c1")
        assert (opened.turn, opened.candidates) == (turn, (2,))
        behind = [True, True]

        async def serve(request, context):
            found = old
            if behind:
                behind.pop()
            else:
                cluster.record("c1", turn, 2, "here")
                found = cluster.machine.turn("c1", turn)
            yield client_pb2.WatchEvent(turn_closed=turn_to_proto(found))

        node.serve_watch = serve
        events = [event async for event in client.watch("c1", turn, candidates=opened.candidates)]
    assert [each.number for each in events[-1].turn.candidates] == [1, 2]
    assert texts(events) == ({2: "here"}, {1: 1, 2: 1})


async def test_a_turn_that_a_node_has_not_seen_yet_is_waited_for(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]

    async def behind(request, context):
        node.serve_watch = None
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such turn")
        yield

    async with Client(cluster.addresses) as client:
        await client.create("c1")
        turn = await client.ask("c1", "q")
        cluster.record("c1", turn, 1, "here")
        node.serve_watch = behind
        events = [event async for event in client.watch("c1", turn)]
    assert texts(events)[0] == {1: "here"}


@pytest.mark.parametrize("conversation", ["c1", "c9"])
async def test_watching_what_does_not_exist_is_not_found(start_cluster, conversation):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(NotFound, match=conversation):
            [event async for event in client.watch(conversation, 3)]


async def test_a_quiet_node_without_a_leader_is_left(start_cluster, monkeypatch):
    monkeypatch.setattr(watch_, "QUIET_S", 0.05)
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    first.knows_leader = False

    async def quiet(request, context):
        await asyncio.Event().wait()
        yield

    first.serve_watch = quiet
    second.serve_watch = serve_with_cuts("here", 1, [])
    async with Client(cluster.addresses) as client:
        events = [event async for event in client.watch("c1", 1)]
    assert texts(events)[0] == {1: "here"}


async def test_a_quiet_node_that_has_a_leader_is_waited_for(start_cluster, monkeypatch):
    monkeypatch.setattr(watch_, "QUIET_S", 0.02)
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    asked = []
    answer = asyncio.Event()
    status = first.GetStatus

    async def counting(request, context):
        asked.append(request)
        if len(asked) == 3:
            answer.set()
        return await status(request, context)

    async def slow(request, context):
        await answer.wait()
        async for event in serve_with_cuts("here", 1, [])(request, context):
            yield event

    await first.die()
    first.GetStatus = counting
    await first.start()
    first.serve_watch = slow
    async with Client(cluster.addresses) as client:
        events = [event async for event in client.watch("c1", 1)]
    assert texts(events)[0] == {1: "here"}
    assert len(first.watches) == 1
    assert not second.watches


async def test_a_turn_that_does_not_close_in_time_says_that_its_answers_are_kept(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(Unavailable, match=r"turn 1 of c1 did not close within 0\.2 s"):
            await client.query("c1", "q", timeout_s=0.2)


@pytest.mark.parametrize(("deadline_ms", "waited_s"), [(0, 0.2), (400, 0.6)])
async def test_a_reader_waits_for_a_council_and_past_the_deadline_that_was_asked_for(
    start_cluster, monkeypatch, deadline_ms, waited_s
):
    monkeypatch.setattr(client_, "ANSWER_TIMEOUT_S", 0.01)
    monkeypatch.setattr(client_, "COUNCIL_TIMEOUT_S", 0.2)
    cluster = await start_cluster()
    cluster.nodes[0].serve_watch = begins_and_waits
    async with Client(cluster.addresses, timeout_s=0.2) as client:
        with pytest.raises(Unavailable, match=rf"did not close within {waited_s} s"):
            [event async for event in client.watch("c1", 1, deadline_ms=deadline_ms)]


async def begins_and_waits(request, context):
    yield delta(1, 1, 0, "a")
    await asyncio.Event().wait()


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_reader_is_told_when_nobody_can_be_reached_any_more(
    start_cluster, monkeypatch, pinned
):
    monkeypatch.setattr(watch_, "LOST_S", 0.3)
    cluster = await start_cluster(1)
    (node,) = cluster.nodes

    node.serve_watch = begins_and_waits
    async with Client(cluster.addresses, pinned=pinned) as client:
        events = client.watch("c1", 1, timeout_s=60)
        assert (await anext(events)).text == "a"
        await node.die()
        with pytest.raises(Unavailable, match=r"turn 1 of c1 cannot be read: for 0\.3 s there was"):
            await anext(events)


async def test_a_node_that_comes_back_in_time_is_read_on(start_cluster):
    cluster = await start_cluster(1)
    (node,) = cluster.nodes

    node.serve_watch = begins_and_waits
    async with Client(cluster.addresses, pinned=True) as client:
        events = client.watch("c1", 1)
        assert (await anext(events)).text == "a"
        await node.die()
        node.serve_watch = serve_with_cuts("ab", 1, [])
        await node.start()
        following = [event async for event in events]
    assert [each.text for each in following if isinstance(each, Delta)] == ["b"]


async def test_a_reader_that_stops_lets_go_of_its_stream(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    ended_streams = []

    async def endless(request, context):
        try:
            yield delta(1, 1, 0, "a")
            await asyncio.Event().wait()
        finally:
            ended_streams.append(request)

    node.serve_watch = endless
    async with Client(cluster.addresses) as client:
        events = client.watch("c1", 1)
        assert (await events.__anext__()).text == "a"
        await events.aclose()
        await until(lambda: ended_streams)
