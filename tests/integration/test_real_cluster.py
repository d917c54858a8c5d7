"""Real processes, real gRPC, real disks, kill -9: what a person would try, and what must hold."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually

from consensusllm.client import (
    AlreadyExists,
    Client,
    Conflict,
    ConsensusError,
    Delta,
    Takeover,
    Unavailable,
)


class Counter:
    """Commands that are recorded when, and only when, they were acknowledged."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.acknowledged: list[int] = []
        self.next = 0

    async def one(self) -> None:
        number = self.next
        self.next += 1
        await self.client.put(f"{self.name}/{number:05d}", b"%d" % number)
        self.acknowledged.append(number)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.one()

    async def check(self) -> None:
        """Everything that was acknowledged is there, with its value."""
        keys = set(await self.client.keys(f"{self.name}/"))
        missing = [n for n in self.acknowledged if f"{self.name}/{n:05d}" not in keys]
        assert missing == []


async def turn_of(client: Client, conversation: str, question: str) -> int:
    turn = await client.query(conversation, question)
    assert turn.closed
    return turn.turn


async def test_a_query_gets_one_answer_from_each_node_and_one_is_chosen(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        await cluster.everybody_is_live()
        client = cluster.client()
        await client.create("c1")
        turn = await client.query("c1", "What is Paxos?")
        assert [(each.number, each.node) for each in turn.candidates] == [(1, 1), (2, 2), (3, 3)]
        assert all(each.answered and each.text for each in turn.candidates)
        await client.choose("c1", 2)
        with pytest.raises(Conflict) as conflict:
            await client.choose("c1", 3)
        assert conflict.value.winner == 2
        with pytest.raises(AlreadyExists):
            await client.create("c1")
        second = await client.query("c1", "And who wrote it?")
        assert second.turn == 2
        status = await cluster.agreement()
        assert status.conversations == 1


@pytest.mark.parametrize("victim", ["leader", "follower"])
async def test_kill_9_in_mid_write_loses_nothing_that_was_acknowledged(
    tmp_path: Path, victim: str
) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        counters = [Counter(client, f"w{number}") for number in range(8)]
        stop = asyncio.Event()
        writers = [asyncio.create_task(counter.run(stop)) for counter in counters]
        for _ in range(3):
            leader = await cluster.leader()
            node = (
                leader if victim == "leader" else next(n for n in cluster.addresses if n != leader)
            )
            goal = sum(len(counter.acknowledged) for counter in counters) + 200

            async def progressed(goal: int = goal) -> bool:
                return sum(len(counter.acknowledged) for counter in counters) >= goal

            await eventually(progressed, "writes are acknowledged before the kill")
            await cluster.faults.fail_node(node)
            goal += 200
            await eventually(
                lambda goal=goal: progressed(goal), "writes are acknowledged after the kill"
            )
            await cluster.faults.fix_node(node)
            await cluster.all_up()
        stop.set()
        await asyncio.gather(*writers)
        for counter in counters:
            await counter.check()
        await cluster.agreement()


async def test_everything_killed_at_once_and_restarted_has_everything_acknowledged(
    tmp_path: Path,
) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        await client.create("c1")
        await cluster.everybody_is_live()
        await turn_of(client, "c1", "What is durable?")
        await client.choose("c1", 3)
        counter = Counter(client, "w")
        for _ in range(200):
            await counter.one()
        before = await client.view("c1")
        await cluster.kill_everything()
        await cluster.start()
        again = cluster.client()
        assert await again.view("c1") == before
        counter.client = again
        await counter.check()
        await cluster.agreement()


async def test_a_leader_that_is_cut_off_refuses_while_the_others_go_on(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        old = await cluster.leader()
        others = tuple(node for node in cluster.addresses if node != old)
        for other in others:
            await cluster.faults.fail_link(old, other)
        new = await cluster.leader(among=others)
        assert new != old
        majority = cluster.client(*others)
        await majority.put("k", b"majority")
        minority = cluster.client(old, pinned=True, timeout_s=2.0)
        with pytest.raises(Unavailable):
            await minority.put("k", b"minority")
        with pytest.raises(Unavailable):
            await minority.get("k")
        assert await minority.conversations(stale=True) == []
        for other in others:
            await cluster.faults.fix_link(old, other)

        async def caught_up() -> bool:
            try:
                return await minority.get("k") == b"majority"
            except ConsensusError:
                return False

        await eventually(caught_up, "the old leader follows again without a restart")
        await cluster.agreement()


async def test_a_one_way_cut_of_the_leader_does_not_stop_the_cluster(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        leader = await cluster.leader()
        client = cluster.client()
        for other in cluster.addresses:
            if other != leader:
                await cluster.faults.fail_link(other, leader, one_way=True)
        await client.put("k", b"v")
        await cluster.faults.heal()
        assert await client.get("k") == b"v"
        await cluster.agreement()


async def test_a_partition_without_a_majority_anywhere_refuses_until_it_heals(
    tmp_path: Path,
) -> None:
    async with RealCluster(tmp_path) as cluster:
        await cluster.faults.partition([[1], [2], [3]])
        client = cluster.client(timeout_s=2.0)
        with pytest.raises(ConsensusError):
            await client.put("k", b"v")
        await cluster.faults.heal()
        healed = cluster.client()
        await healed.put("k", b"w")
        await cluster.agreement()


async def test_a_node_that_lost_its_disk_learns_everything_and_votes_again(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        counter = Counter(client, "w")
        for _ in range(50):
            await counter.one()
        leader = await cluster.leader()
        lost = next(node for node in cluster.addresses if node != leader)
        await cluster.faults.fail_node(lost)
        (cluster.data_dir / f"node-{lost}" / "node.db").unlink()
        await cluster.faults.fix_node(lost)

        async def votes() -> bool:
            status = await cluster.status(lost)
            return status is not None and status.role == "following"

        await eventually(votes, "the node votes again")
        other = next(node for node in cluster.addresses if node not in (leader, lost))
        await cluster.faults.fail_node(other)
        await counter.one()  # needs the vote of the node that had lost its disk
        await cluster.faults.fix_node(other)
        await counter.check()
        await cluster.agreement()


async def test_a_damaged_database_is_kept_aside_and_repaired_from_the_peers(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        counter = Counter(client, "w")
        for _ in range(50):
            await counter.one()
        await cluster.faults.fail_node(2)
        path = cluster.data_dir / "node-2" / "node.db"
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        path.write_bytes(content[: len(content) // 2])
        await cluster.faults.fix_node(2)

        async def votes() -> bool:
            status = await cluster.status(2)
            return status is not None and status.role in ("following", "leading")

        await eventually(votes, "the node votes again")
        assert list(path.parent.glob("node.db.damaged-*"))
        await counter.check()
        await cluster.agreement()


async def test_a_node_that_missed_more_than_the_log_holds_catches_up_by_snapshot(
    tmp_path: Path,
) -> None:
    small = {"snapshot_every_slots": 50, "log_retain_bytes": 1024}
    async with RealCluster(tmp_path, paxos=small) as cluster:
        client = cluster.client()
        leader = await cluster.leader()
        late = next(node for node in cluster.addresses if node != leader)
        await cluster.faults.fail_node(late)
        counter = Counter(client, "w")
        for _ in range(300):
            await counter.one()
        status = await cluster.status(leader)
        assert status is not None
        assert status.log_first_slot > 100
        await cluster.faults.fix_node(late)
        agreed = await cluster.agreement()
        assert agreed.keys == 300
        status = await cluster.status(late)
        assert status is not None
        assert status.snapshot_slot > 50


async def test_one_of_two_choices_wins_and_the_other_is_told_who(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        await cluster.everybody_is_live()
        clients = [cluster.client(node, pinned=True) for node in (1, 2)]
        await clients[0].create("c1")
        for _ in range(5):
            turn = await turn_of(clients[0], "c1", "Which one?")
            outcomes = await asyncio.gather(
                *(client.choose("c1", number + 1) for number, client in enumerate(clients)),
                return_exceptions=True,
            )
            conflicts = [each for each in outcomes if isinstance(each, Conflict)]
            assert len(conflicts) == 1, outcomes
            conversation = await clients[1].view("c1")
            assert conversation.turns[turn - 1].choice == conflicts[0].winner


async def test_200_commands_with_the_leader_killed_every_20_happen_exactly_once(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        await client.create("c")
        await client.put("total", b"0")
        total = turns = 0
        for number in range(200):
            if number % 20 == 19:
                leader = await cluster.leader()
                await cluster.faults.fail_node(leader)
                down = leader
            else:
                down = 0
            if rng.random() < 0.1:
                turn = await client.query("c", f"question {number}")
                turns += 1
                answered = [each.number for each in turn.candidates if each.answered]
                await client.choose("c", rng.choice(answered))
            else:
                await client.compare_and_swap("total", b"%d" % total, b"%d" % (total + 1))
                total += 1
            if down:
                await cluster.faults.fix_node(down)
        assert await client.get("total") == b"%d" % total
        conversation = await client.view("c")
        assert [turn.question for turn in conversation.turns] == sorted(
            {turn.question for turn in conversation.turns}, key=lambda text: int(text.split()[1])
        )
        assert len(conversation.turns) == turns
        assert all(turn.choice for turn in conversation.turns)
        await cluster.agreement()


async def test_a_turn_closes_although_the_node_of_a_candidate_dies_in_mid_answer(
    tmp_path: Path,
) -> None:
    text = " ".join(f"word {number}" for number in range(60))
    slow = [{"provider": "scripted", "options": {"tokens_per_second": 40, "texts": [text]}}]
    answering = {"reassign_after_ms": 500}
    async with RealCluster(tmp_path, models=slow, answering=answering) as cluster:
        await cluster.everybody_is_live()
        leader = await cluster.leader()
        victim = next(node for node in cluster.addresses if node != leader)
        client = cluster.client()
        await client.create("c1")
        turn = await client.ask("c1", "Tell me everything.")
        read = ""
        takeovers = []
        killed = False
        async for event in client.watch("c1", turn):
            if isinstance(event, Takeover) and event.candidate == victim:
                takeovers.append((event.offset, len(read)))
                read = read[: event.offset]
            elif isinstance(event, Delta) and event.candidate == victim:
                assert event.offset == len(read)
                read += event.text
            if not killed:
                checkpointed = (await client.view("c1", stale=True)).turns[0].candidates[victim - 1]
                if checkpointed.text:
                    killed = True
                    await cluster.faults.fail_node(victim)

        candidate = (await client.view("c1")).turns[0].candidate(victim)
        assert candidate is not None
        assert candidate.answered
        assert candidate.node != victim
        for (offset, had_read), taken in zip(takeovers, candidate.takeovers, strict=True):
            assert offset == min(taken.kept, had_read), "what nobody had read yet cannot be void"
            assert offset > 0
        assert candidate.text == read == text


async def test_a_cancelled_turn_stops_its_models_and_keeps_what_they_wrote(tmp_path: Path) -> None:
    endless = [
        {"provider": "scripted", "options": {"tokens_per_second": 20, "texts": ["word " * 100_000]}}
    ]
    async with RealCluster(tmp_path, models=endless) as cluster:
        await cluster.everybody_is_live()
        client = cluster.client()
        await client.create("c1")
        events = client.stream("c1", "Go on.", cancel=True)

        async def checkpointed() -> bool:
            turn = (await client.view("c1")).turns[0]
            return all(candidate.text for candidate in turn.candidates)

        assert isinstance(await anext(events), Delta)
        await eventually(checkpointed, "what the models write is checkpointed")
        await events.aclose()
        turn = (await client.view("c1")).turns[0]
        assert turn.closed
        assert {candidate.error for candidate in turn.candidates} == {"cancelled"}
        assert all(candidate.text.startswith("word word") for candidate in turn.candidates)
        with pytest.raises(Conflict):
            await client.cancel("c1")
        await cluster.agreement()


async def test_direct_links_carry_everything_without_an_orchestrator(tmp_path: Path) -> None:
    async with RealCluster(tmp_path, direct=True) as cluster:
        client = cluster.client()
        await client.create("c1")
        await turn_of(client, "c1", "Who carries this?")
        leader = await cluster.leader()
        await cluster.faults.fail_node(leader)
        await client.put("k", b"v")
        await cluster.faults.fix_node(leader)
        await cluster.agreement()


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_clusters_of_other_sizes_work_too(tmp_path: Path, size: int) -> None:
    async with RealCluster(tmp_path, size) as cluster:
        await cluster.everybody_is_live()
        client = cluster.client()
        await client.create("c1")
        turn = await client.query("c1", "How many are we?")
        assert len(turn.candidates) == size
        if size == 5:
            await cluster.faults.fail_node(1)
            await cluster.faults.fail_node(2)
            await client.put("k", b"two of five are dead")
            await cluster.faults.fix_node(1)
            await cluster.faults.fix_node(2)
        await cluster.agreement()
