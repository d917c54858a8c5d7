"""The answerer against real state machines, scripted providers and a cluster that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from council_fakes import WAIT_S, Cluster, Port, until
from structlog.testing import capture_logs

from consensusllm.conversations import (
    CreateConversation,
    Delete,
    GenerationOptions,
    Limits,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    Refused,
    SubmitQuery,
)
from consensusllm.conversations.commands import Choose
from consensusllm.council.answerer import Answerer
from consensusllm.llm.port import Chunk, GenerateRequest, Rejected
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings


class Gated:
    """A provider that writes its model's name, then waits until ``gate`` is set."""

    name = "gated"

    def __init__(self, model: str, continues: bool = False) -> None:
        self.model = model
        self.continues = continues
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.requests: list[GenerateRequest] = []
        self.running = 0
        self.running_max = 0
        self.cancelled = 0

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        self.requests.append(request)
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            yield Chunk(f"by {self.model}", model=self.model)
            self.begun.set()
            await self.gate.wait()
            yield Chunk(finish_reason="stop", model=self.model)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """Nothing to close."""


def scripted(node: int, **options: Any) -> Scripted:
    return Scripted(ProviderSettings("scripted", node=node, options=options))


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    monkeypatch.setattr("consensusllm.council.answerer.RETRY_S", 0.01)
    answerers: list[Answerer] = []

    async def start(port: Port, provider: Any = None, **options: Any) -> Answerer:
        providers = {"": provider or scripted(port.node, texts=["answer of {node}"])}
        defaults = {"poll_s": 0.01, "reassign_after_s": 0.05}
        answerer = Answerer(port, providers, **{**defaults, **options})
        answerers.append(answerer)
        await answerer.start()
        if port.connected:
            await until(lambda: port.passed)
        return answerer

    yield start
    for answerer in answerers:
        await answerer.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_every_node_answers_its_own_candidate_and_the_turn_closes(start):
    cluster = Cluster()
    for port in cluster.ports.values():
        await start(port)
    cluster.ask()
    await until(lambda: cluster.turn().closed)
    texts = [candidate.text for candidate in cluster.turn().candidates]
    assert texts == ["answer of 1", "answer of 2", "answer of 3"]
    first = cluster.candidate()
    assert (first.model, first.finish_reason, first.attempt) == ("scripted", "stop", 1)
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (1, 3)
    assert cluster.operations(ReassignCandidate) == []


async def test_the_prompt_is_the_replicated_history_with_its_options(start):
    cluster = Cluster()
    provider = Gated("m")
    provider.gate.set()
    await start(cluster.ports[1], provider)
    cluster.ask((1,), question="first?")
    await until(lambda: cluster.turn().closed)
    cluster.propose(Choose("c1", 1, 1))
    options = GenerationOptions(temperature=0.5, max_tokens=9, seed=3, system="be kind")
    cluster.ask((1,), question="second?", options=options)
    await until(lambda: cluster.turn(2).closed)
    request = provider.requests[1]
    said = [(turn.role, turn.text) for turn in request.turns]
    assert said == [("user", "first?"), ("assistant", "by m"), ("user", "second?")]
    asked = (request.temperature, request.max_tokens, request.seed, request.system)
    assert asked == (0.5, 9, 3, "be kind")


async def test_live_text_is_published_with_offsets_in_characters(start):
    cluster = Cluster()
    await start(cluster.ports[2], scripted(2, texts=["é 🗳 漢字 x"]))
    cluster.ask((2,))
    await until(lambda: cluster.turn().closed)
    deltas = cluster.ports[2].deltas
    text = ""
    for delta in deltas:
        assert delta.offset == len(text)
        text += delta.text
    assert text == cluster.candidate().text == "é 🗳 漢字 x"
    first = deltas[0]
    assert (first.conversation, first.turn, first.candidate) == ("c1", 1, 1)
    assert (first.attempt, first.model) == (cluster.candidate().attempt, "scripted")


@pytest.mark.parametrize("kind", ["rejected", "unavailable", "timed_out", "cut"])
async def test_a_providers_error_is_the_candidates_outcome(start, kind):
    cluster = Cluster()
    await start(cluster.ports[1], scripted(1, failures={kind: 1.0}))
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert candidate.ended
    assert not candidate.answered
    assert candidate.error.startswith("scripted: ")
    assert candidate.text == ""


async def test_an_exception_that_no_provider_may_raise_is_an_outcome_too(start):
    class Broken(Gated):
        async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
            yield Chunk("x")
            raise ZeroDivisionError("with a secret")

    cluster = Cluster()
    await start(cluster.ports[1], Broken("m"))
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    assert "ZeroDivisionError" in cluster.candidate().error
    assert "secret" not in cluster.candidate().error


async def test_an_answer_that_the_state_refuses_is_recorded_as_an_error(start):
    cluster = Cluster(limits=Limits(text_bytes=200))
    await start(cluster.ports[1], scripted(1, texts=["long " * 100]))
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().error.startswith("the answer cannot be recorded: ")


async def test_an_answer_that_can_never_be_recorded_is_not_paid_for_again(start):
    cluster = Cluster(limits=Limits(text_bytes=5))
    provider = Gated("model")
    provider.gate.set()
    await start(cluster.ports[1], provider)
    cluster.ask((1,))
    await until(lambda: provider.requests)
    polls = cluster.ports[1].polls
    await until(lambda: cluster.ports[1].polls > polls + 3)
    assert len(provider.requests) == 1


async def test_a_node_without_a_model_says_so(start):
    cluster = Cluster()
    answerer = Answerer(cluster.ports[1], {})
    await answerer.start()
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    assert "serves no model" in cluster.candidate().error
    await answerer.close()


async def test_a_candidate_goes_to_the_provider_of_its_model_else_to_the_default(start):
    cluster = Cluster()
    default, other = Gated("default"), Gated("other")
    default.gate.set()
    other.gate.set()
    answerer = Answerer(cluster.ports[1], {"": default, "other": other}, poll_s=0.01)
    await answerer.start()
    cluster.propose(CreateConversation("c1"))
    plan = tuple(PlannedCandidate(n, 1, m) for n, m in enumerate(("", "other", "gone"), start=1))
    cluster.propose(SubmitQuery("c1", "?", plan))
    await until(lambda: cluster.turn().closed)
    models = [candidate.model for candidate in cluster.turn().candidates]
    assert models == ["default", "other", "default"]
    await answerer.close()


async def test_an_answer_that_cannot_be_recorded_yet_is_proposed_until_it_is(start):
    cluster = Cluster()
    provider = Gated("m")
    await start(cluster.ports[2], provider)
    cluster.ask((2,))
    await asyncio.wait_for(provider.begun.wait(), WAIT_S)
    cluster.ports[2].connected = False
    cluster.ports[2].attempted.clear()
    provider.gate.set()
    await asyncio.wait_for(cluster.ports[2].attempted.wait(), WAIT_S)
    assert not cluster.turn().closed
    cluster.ports[2].connected = True
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "by m"
    assert (len(provider.requests), cluster.candidate().attempt) == (1, 1)


async def test_a_turn_past_its_deadline_is_closed_and_the_call_is_ended(start):
    cluster = Cluster()
    provider = Gated("m")
    await start(cluster.ports[1])
    await start(cluster.ports[2], provider)
    cluster.ask((1, 2), deadline_ms=5000)
    await asyncio.wait_for(provider.begun.wait(), WAIT_S)
    await until(lambda: cluster.candidate(1).ended)
    cluster.time_ms += 5000
    assert not cluster.turn().closed
    cluster.time_ms += 1
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate(1).answered
    assert cluster.candidate(2).error == "deadline passed: no answer in 5 s"
    await until(lambda: provider.cancelled == 1)
    assert len(cluster.operations(RecordCandidate)) == 1


async def test_candidates_of_a_dead_node_are_spread_over_the_living(start):
    cluster = Cluster(nodes=4)
    gates = {node: Gated(f"m{node}") for node in (1, 2, 3)}
    for node, provider in gates.items():
        await start(cluster.ports[node], provider)
    cluster.ports[4].connected = False
    cluster.live -= {4}
    cluster.ask((4, 4, 4))
    await until(lambda: len(cluster.operations(ReassignCandidate)) == 3)
    await until(lambda: all(gate.running for gate in gates.values()))
    candidates = cluster.turn().candidates
    assert sorted(each.node for each in candidates) == [1, 2, 3]
    assert {each.attempt for each in candidates} == {2}
    for gate in gates.values():
        gate.gate.set()
    await until(lambda: cluster.turn().closed)
    assert sorted(each.text for each in cluster.turn().candidates) == ["by m1", "by m2", "by m3"]
    assert len(cluster.operations(ReassignCandidate)) == 3


async def test_a_node_that_is_back_in_time_keeps_its_candidates(start):
    cluster = Cluster()
    await start(cluster.ports[1], reassign_after_s=WAIT_S)
    cluster.live -= {2}
    cluster.ask((1, 2))
    await until(lambda: cluster.candidate(1).ended)
    cluster.live |= {2}
    await start(cluster.ports[2])
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate(2).text == "answer of 2"
    assert {each.node for each in cluster.operations(ReassignCandidate)} <= {2}


async def test_a_fenced_attempt_is_cancelled_and_nothing_of_it_is_recorded(start):
    cluster = Cluster()
    slow = Gated("slow")
    await start(cluster.ports[2], slow)
    await start(cluster.ports[3], Gated("unused"))
    cluster.ask((2,))
    await asyncio.wait_for(slow.begun.wait(), WAIT_S)
    attempt = cluster.candidate().attempt
    cluster.propose(ReassignCandidate("c1", 1, 1, attempt + 1, 3, 0))
    await until(lambda: slow.cancelled == 1)
    slow.gate.set()
    assert cluster.operations(RecordCandidate) == []
    assert cluster.candidate().node == 3


async def test_an_answer_that_comes_after_its_attempt_was_fenced_is_dropped(start):
    cluster = Cluster()
    slow, quick = Gated("slow"), Gated("quick")
    await start(cluster.ports[2], slow)
    await start(cluster.ports[3], quick)
    cluster.ask((2,))
    await asyncio.wait_for(slow.begun.wait(), WAIT_S)
    cluster.ports[2].connected = False  # it does not see that it is fenced
    cluster.propose(ReassignCandidate("c1", 1, 1, cluster.candidate().attempt + 1, 3, 0))
    slow.gate.set()
    await asyncio.wait_for(quick.begun.wait(), WAIT_S)
    # The network lets its proposal through before the fence has reached it.
    reply = cluster.propose(RecordCandidate("c1", 1, 1, 1, "by slow", "slow", "stop"))
    assert isinstance(reply, Refused)
    quick.gate.set()
    await until(lambda: cluster.turn().closed)
    cluster.ports[2].connected = True
    cluster.ports[2].catch_up()
    await until(lambda: slow.running == 0)
    assert cluster.candidate().text == "by quick"


async def test_a_deleted_conversation_ends_the_call(start):
    cluster = Cluster()
    provider = Gated("m")
    await start(cluster.ports[1], provider)
    cluster.ask((1,))
    await asyncio.wait_for(provider.begun.wait(), WAIT_S)
    cluster.propose(Delete("c1"))
    await until(lambda: provider.cancelled == 1)
    provider.gate.set()
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "by m"


async def test_a_new_process_claims_what_it_finds_before_it_calls_a_model(start):
    cluster = Cluster()
    before = Gated("before")
    first = await start(cluster.ports[2], before)
    cluster.ask((2,))
    await asyncio.wait_for(before.begun.wait(), WAIT_S)
    await first.close()
    assert cluster.candidate().attempt == 1
    after = Gated("after")
    after.gate.set()
    await start(cluster.ports[2], after)
    await until(lambda: cluster.turn().closed)
    assert (cluster.candidate().text, cluster.candidate().attempt) == ("by after", 2)
    assert [(each.attempt, each.node) for each in cluster.operations(ReassignCandidate)] == [(2, 2)]
    assert {delta.attempt for delta in cluster.ports[2].deltas if "after" in delta.text} == {2}


async def test_what_a_new_process_learns_late_but_an_earlier_one_knew_is_claimed_too(start):
    """A slot may be applied before a crash and again, as news, after it."""
    cluster = Cluster()
    port = cluster.ports[2]
    port.connected = False
    cluster.ask((2,))
    provider = Gated("m")
    provider.gate.set()
    await start(port, provider)
    await until(lambda: port.attempted.is_set())
    port.connected = True
    port.catch_up()  # through apply, while the answerer runs
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().attempt == 2
    assert len(provider.requests) == 1


async def test_without_a_quorum_no_model_is_called(start):
    cluster = Cluster()
    cluster.ask((2,))
    provider = Gated("m")
    port = cluster.ports[2]
    port.connected = False
    await start(port, provider)
    for _ in range(3):
        port.attempted.clear()
        await asyncio.wait_for(port.attempted.wait(), WAIT_S)
    assert provider.requests == []


async def test_a_new_leader_takes_the_duties_over(start):
    cluster = Cluster()
    await start(cluster.ports[1])
    await start(cluster.ports[2])
    cluster.leader = 0
    cluster.live -= {3}
    cluster.ask((3,), deadline_ms=5000)
    cluster.ask((1,), conversation="c2")
    await until(lambda: cluster.turn(conversation="c2").closed)
    assert cluster.operations(ReassignCandidate) == []
    cluster.leader = 2
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().answered
    assert [
        each.session[:6] for each in cluster.log if isinstance(each.operation, ReassignCandidate)
    ] == [b"node 2"]


async def test_many_turns_at_once_are_answered_within_the_bound(start):
    cluster = Cluster()
    providers = {node: Gated(f"m{node}") for node in cluster.ports}
    for node, port in cluster.ports.items():
        await start(port, providers[node], concurrency=5)
    for number in range(40):
        cluster.ask(conversation=f"c{number}")
    await until(lambda: all(provider.running == 5 for provider in providers.values()))
    for provider in providers.values():
        provider.gate.set()
    names = [f"c{number}" for number in range(40)]
    await until(lambda: all(cluster.turn(1, name).closed for name in names))
    for provider in providers.values():
        assert (len(provider.requests), provider.running_max) == (40, 5)
    for name in names:
        texts = [each.text for each in cluster.turn(1, name).candidates]
        assert texts == ["by m1", "by m2", "by m3"]
    assert len({port.machine.state_hash() for port in cluster.ports.values()}) == 1


async def test_closing_ends_every_call_and_leaves_the_work_in_the_state(start):
    cluster = Cluster()
    provider = Gated("m")
    answerer = await start(cluster.ports[1], provider)
    cluster.ask((1, 1, 1))
    await until(lambda: provider.running == 3)
    await answerer.close()
    assert (provider.running, provider.cancelled) == (0, 3)
    assert not cluster.turn().closed
    assert cluster.operations(RecordCandidate) == []


async def test_closing_while_nothing_can_be_proposed_does_not_wait(start):
    cluster = Cluster()
    provider = Gated("m")
    provider.gate.set()
    answerer = await start(cluster.ports[2], provider)
    cluster.ask((2,))
    cluster.ports[2].connected = False
    await until(lambda: provider.requests)
    await asyncio.wait_for(answerer.close(), WAIT_S)


async def test_an_error_is_cut_to_a_line_that_fits(start):
    class Wordy(Gated):
        async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
            raise Rejected("no " * 10_000)
            yield Chunk()

    cluster = Cluster()
    await start(cluster.ports[1], Wordy("m" * 1000))
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    assert 0 < len(cluster.candidate().error) <= 2000


async def test_what_is_gone_before_its_call_has_begun_is_neither_asked_nor_a_bug(start):
    """Between the look that finds work and the task that does it another batch may be applied."""
    cluster = Cluster()
    provider = Gated("m")
    answerer = await start(cluster.ports[1], provider)
    with capture_logs() as logs:
        cluster.ask((1,))
        await asyncio.sleep(0)
        assert answerer._running
        cluster.propose(Delete("c1"))
        await until(lambda: not answerer._running)
    assert provider.requests == []
    assert [each for each in logs if each["log_level"] == "error"] == []
