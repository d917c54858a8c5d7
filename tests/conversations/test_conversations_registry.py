"""The registry of models: who serves what, what it answered and what that cost."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from consensusllm.conversations import (
    Code,
    GenerationOptions,
    Limits,
    RecordCandidate,
    RegisteredModel,
    ServedModel,
    ServeModels,
    Usage,
    encode,
    prompt_hash,
    restore,
)

SMALL = ServedModel("small", "ollama", "llama3.2", prompt_price=100_000, completion_price=300_000)
LARGE = ServedModel("large", "gemini", "gemini-2.5-pro", 1_000_000, 8192, 1, 2, ("x",), ("small",))


def recorded(driver: Any, served_as: str, usage: Usage, candidate: int = 1, error: str = "") -> Any:
    turn = driver.ask("c1")
    attempt = driver.turn("c1", turn).candidate(candidate).attempt
    driver.done(
        RecordCandidate(
            *("c1", turn, candidate, attempt, "text", "exact", "stop", usage, error),
            *("ollama", served_as, "ab" * 32),
        )
    )
    return driver.turn("c1", turn).candidate(candidate)


def test_a_node_serves_what_it_said_last(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL, LARGE)))
    driver.done(ServeModels(2, (SMALL,)))
    assert [each.served for each in driver.machine.registry[1]] == [SMALL, LARGE]
    driver.done(ServeModels(1, (LARGE,)))
    assert driver.machine.registry == {
        1: (RegisteredModel(LARGE),),
        2: (RegisteredModel(SMALL),),
    }
    driver.done(ServeModels(2, ()))
    assert 2 not in driver.machine.registry


def test_the_same_model_of_two_nodes_is_counted_apart(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    driver.done(ServeModels(2, (SMALL,)))
    recorded(driver, "small", Usage(10, 20), candidate=2)
    assert driver.machine.registry[1] == (RegisteredModel(SMALL),)
    assert driver.machine.registry[2] == (RegisteredModel(SMALL, 1, 0, 10, 20, 7),)


def test_a_candidate_has_its_provider_prompt_hash_and_cost(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    candidate = recorded(driver, "small", Usage(1000, 2000))
    assert (candidate.provider, candidate.model) == ("ollama", "exact")
    assert candidate.prompt_hash == "ab" * 32
    assert candidate.cost == 700  # 0.1 + 0.6 thousandths of the currency


def test_a_part_of_a_millionth_is_charged_as_one(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    assert recorded(driver, "small", Usage(1, 0)).cost == 1
    assert recorded(driver, "small", Usage(0, 0)).cost == 0


def test_errors_are_counted_as_errors(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    recorded(driver, "small", Usage(5, 0), error="cut off")
    (model,) = driver.machine.registry[1]
    assert (model.answers, model.errors, model.prompt_tokens, model.cost) == (0, 1, 5, 1)


def test_what_is_not_registered_costs_nothing_and_is_not_counted(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    assert recorded(driver, "other", Usage(1000, 1000)).cost == 0
    assert driver.machine.registry[1] == (RegisteredModel(SMALL),)


def test_counts_outlive_a_new_price_but_not_another_model_of_that_name(driver: Any) -> None:
    driver.done(ServeModels(1, (SMALL,)))
    recorded(driver, "small", Usage(10, 20))
    dearer = replace(SMALL, completion_price=900_000)
    driver.done(ServeModels(1, (LARGE, dearer)))
    assert driver.machine.registry[1][1] == RegisteredModel(dearer, 1, 0, 10, 20, 7)
    driver.done(ServeModels(1, (replace(SMALL, model="llama4"),)))
    assert driver.machine.registry[1][0].answers == 0


@pytest.mark.parametrize(
    "models",
    [
        (SMALL, SMALL),
        (replace(SMALL, name=""),),
        (replace(SMALL, name="a b"),),
        (replace(SMALL, name="a,b"),),
        (replace(SMALL, name="a@1"),),
        (replace(SMALL, name="x" * 129),),
        (replace(SMALL, provider="x" * 300),),
        (replace(SMALL, fallbacks=("x",) * 33),),
        (replace(SMALL, prompt_price=-1),),
        (replace(SMALL, context_tokens=1 << 50),),
        tuple(replace(SMALL, name=f"m{number}") for number in range(65)),
    ],
)
def test_what_cannot_be_served_is_refused_whole(
    driver: Any, models: tuple[ServedModel, ...]
) -> None:
    driver.done(ServeModels(1, (LARGE,)))
    assert driver.refused(ServeModels(1, models)).code in (Code.INVALID, Code.TOO_LARGE)


def test_nodes_are_limited_in_number(driver_class: Any) -> None:
    driver = driver_class(Limits(registered_nodes=1))
    assert driver.refused(ServeModels(0, (SMALL,))).code is Code.INVALID
    driver.done(ServeModels(1, (SMALL,)))
    assert driver.refused(ServeModels(2, (SMALL,))).code is Code.TOO_LARGE
    driver.done(ServeModels(1, (LARGE,)))
    driver.done(ServeModels(1, ()))
    driver.done(ServeModels(2, (SMALL,)))


def test_a_snapshot_has_the_registry_and_the_hash_sees_it(driver: Any) -> None:
    empty = driver.machine.state_hash()
    driver.done(ServeModels(1, (SMALL, LARGE)))
    recorded(driver, "large", Usage(1000, 2000))
    restored = restore(encode(driver.machine.freeze()), Limits())
    assert restored.registry == driver.machine.registry
    assert restored.state_hash() == driver.machine.state_hash() != empty
    assert restored.turn("c1", 1) == driver.turn("c1", 1)


def test_a_prompt_hash_depends_on_all_that_is_asked() -> None:
    prompt = (("user", "a"), ("assistant", "b"), ("user", "c"))
    options = GenerationOptions(0.5, 10, 1, "be brief")
    asked = [
        (prompt, options),
        (prompt[1:], options),
        ((("user", "ab"), *prompt[1:]), options),
        (prompt, replace(options, system=None)),
        (prompt, replace(options, temperature=None)),
        (prompt, replace(options, max_tokens=11)),
        (prompt, replace(options, seed=2)),
        ((("user", "a\ud800"),), options),
    ]
    hashes = [prompt_hash(*each) for each in asked]  # type: ignore[arg-type]
    assert len(set(hashes)) == len(asked)
    assert all(len(each) == 64 for each in hashes)


def test_a_prompt_hash_can_be_taken_elsewhere() -> None:
    canonical = (
        b'{"max_tokens":null,"messages":[["user","a"]],"seed":null,'
        b'"system":null,"temperature":null}'
    )
    assert prompt_hash((("user", "a"),), GenerationOptions()) == sha256(canonical).hexdigest()
