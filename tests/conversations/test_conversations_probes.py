"""Free looks at model servers: who may look, and what is made of what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensusllm.conversations import (
    Code,
    Limits,
    ProbedModel,
    ProbeLease,
    RecordCandidate,
    RecordProbe,
    RegisteredModel,
    ServedModel,
    ServeModels,
    encode,
    restore,
)
from consensusllm.conversations.probe_rules import PROBE_LEASE_MS

GPU = "ollama http://gpu:11434"
SMALL = ServedModel("small", "ollama", "llama3.2", server=GPU)
LARGE = ServedModel("large", "ollama", "llama4", server=GPU)
OTHER = ServedModel("other", "openai", "llama3.2", server="openai http://vllm/v1")
WELL = ProbedModel("llama3.2", loaded=True)
DOWN = ProbedModel("llama3.2", error="no connection")


def registered(driver: Any, node: int, name: str = "small") -> RegisteredModel:
    return next(each for each in driver.machine.registry[node] if each.served.name == name)


def answered(driver: Any, node: int, error: str = "") -> None:
    turn = driver.ask("c1")
    attempt = driver.turn("c1", turn).candidate(node).attempt
    driver.done(
        RecordCandidate(
            *("c1", turn, node, attempt, "text", "llama3.2", "stop"), error=error, served_as="small"
        )
    )


def wait_for_the_lease_to_end(driver: Any) -> None:
    until_ms = driver.machine.probe_leases[GPU].until_ms
    while driver.machine.time_ms <= until_ms:
        driver.send()


@pytest.fixture
def shared(driver: Any) -> Any:
    """Nodes 1 and 2 call the same server, and node 1 another one besides."""
    driver.done(ServeModels(1, (SMALL, OTHER)))
    driver.done(ServeModels(2, (LARGE, SMALL)))
    return driver


def test_what_one_node_finds_is_known_of_all_models_of_the_server(shared: Any) -> None:
    shared.done(RecordProbe(1, GPU, (WELL, ProbedModel("llama4", False))))
    now = shared.machine.time_ms
    assert registered(shared, 1) == RegisteredModel(SMALL, loaded=True, probed_ms=now)
    assert registered(shared, 2) == RegisteredModel(SMALL, loaded=True, probed_ms=now)
    assert registered(shared, 2, "large") == RegisteredModel(LARGE, loaded=False, probed_ms=now)
    assert registered(shared, 1, "other") == RegisteredModel(OTHER), "another server's"


def test_only_one_node_looks_until_its_lease_ends(shared: Any) -> None:
    shared.done(RecordProbe(1, GPU))
    lease = ProbeLease(1, shared.machine.time_ms + PROBE_LEASE_MS)
    assert shared.machine.probe_leases == {GPU: lease}
    refusal = shared.refused(RecordProbe(2, GPU, (WELL,)))
    assert refusal.code is Code.STALE
    assert "node 1 looks at" in refusal.message
    shared.done(RecordProbe(1, GPU))
    assert shared.machine.probe_leases[GPU].until_ms > lease.until_ms, "it is renewed"
    wait_for_the_lease_to_end(shared)
    shared.done(RecordProbe(2, GPU, (WELL,)))
    assert shared.machine.probe_leases[GPU].node == 2
    assert shared.refused(RecordProbe(1, GPU, (DOWN,))).code is Code.STALE


def test_who_serves_no_model_of_a_server_does_not_look_at_it(shared: Any) -> None:
    for probe in (RecordProbe(2, OTHER.server), RecordProbe(3, GPU), RecordProbe(1, "")):
        assert shared.refused(probe).code is Code.INVALID
    long = ProbedModel("llama3.2", error="x" * 300)
    assert shared.refused(RecordProbe(1, GPU, (long,))).code is Code.TOO_LARGE


def test_a_look_that_failed_stands_until_a_good_one(shared: Any) -> None:
    shared.done(RecordProbe(1, GPU, (DOWN,)))
    began_ms = shared.machine.time_ms
    shared.done(RecordProbe(1, GPU, (DOWN,)))
    assert registered(shared, 2).probe_error == "no connection"
    assert registered(shared, 2).probed_ms == began_ms, "nothing else was found since"
    shared.done(RecordProbe(1, GPU, (WELL,)))
    assert (registered(shared, 2).probe_error, registered(shared, 2).loaded) == ("", True)


def test_a_real_answer_overrules_the_look_before_it(shared: Any) -> None:
    shared.done(RecordProbe(1, GPU, (DOWN,)))
    answered(shared, 2, error="failed again")
    assert registered(shared, 2).probe_error == "no connection"
    answered(shared, 2)
    assert registered(shared, 2).probe_error == ""
    assert registered(shared, 1).probe_error == "no connection", "it says nothing of node 1"
    shared.done(RecordProbe(1, GPU, (ProbedModel("llama3.2", loaded=False),)))
    answered(shared, 2)
    assert registered(shared, 2).loaded is True, "what answers is in memory"


def test_a_real_answer_overrules_a_look_that_began_before_it(shared: Any) -> None:
    answered(shared, 1)
    began = replace(DOWN, answers=1)
    answered(shared, 2)
    shared.done(RecordProbe(1, GPU, (began,)))
    assert registered(shared, 1).probe_error == registered(shared, 2).probe_error == ""
    shared.done(RecordProbe(1, GPU, (replace(began, answers=2),)))
    assert registered(shared, 1).probe_error == registered(shared, 2).probe_error != ""


def test_a_good_look_does_not_excuse_real_failures(shared: Any) -> None:
    answered(shared, 2, error="failed")
    shared.done(RecordProbe(1, GPU, (WELL,)))
    assert registered(shared, 2).failures == 1


def test_a_model_of_another_server_is_not_known(shared: Any) -> None:
    answered(shared, 1)
    shared.done(RecordProbe(1, GPU, (WELL,)))
    shared.done(ServeModels(1, (replace(SMALL, server="ollama http://gpu2"), OTHER)))
    moved = registered(shared, 1)
    assert (moved.answers, moved.loaded, moved.probed_ms) == (1, None, 0)
    shared.done(ServeModels(2, (replace(LARGE, max_tokens=5), SMALL)))
    assert registered(shared, 2).loaded is True, "nothing else of it has changed"


def test_a_lease_ends_with_the_last_model_of_its_server(shared: Any) -> None:
    shared.done(RecordProbe(1, GPU))
    shared.done(ServeModels(1, ()))
    assert GPU in shared.machine.probe_leases, "node 2 waits for its end"
    shared.done(ServeModels(2, ()))
    assert not shared.machine.probe_leases


def test_a_snapshot_has_leases_and_findings_and_the_hash_sees_them(shared: Any) -> None:
    hashes = [shared.machine.state_hash()]
    for probe in (RecordProbe(1, GPU), RecordProbe(1, GPU, (WELL,)), RecordProbe(1, GPU, (DOWN,))):
        shared.done(probe)
        hashes.append(shared.machine.state_hash())
    assert len(set(hashes)) == len(hashes)
    restored = restore(encode(shared.machine.freeze()), Limits())
    assert restored.registry == shared.machine.registry
    assert restored.probe_leases == shared.machine.probe_leases
    assert restored.state_hash() == hashes[-1]
