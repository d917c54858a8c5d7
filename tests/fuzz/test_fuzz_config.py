"""Whatever a file holds: a configuration, or a ConfigError of one line that names the file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fuzzing import is_one_line, mutate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensusllm.config import Config, demo_document
from consensusllm.config_file import ConfigError, read_document

ROOT = Path(__file__).parents[2]
KEYS = (
    "nodes", "id", "address", "models", "provider", "options", "paxos", "heartbeat_ms",
    "limits", "message_bytes", "orchestrator", "token", "cluster_id", "log", "level", "nodse",
    "", "a\nb", "\ud800", "k" * 5000,
)  # fmt: skip
SCALARS: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 70, 1.5, "", "x", "127.0.0.1:1", "127.0.0.1:99999", "[::1]:5", ":",
    "${HOME}", "${", "${NO_SUCH:-d}", "${NO_SUCH}", "\0", "\ud800", "line\nline",
)  # fmt: skip


def examples() -> list[Any]:
    found: list[Any] = [demo_document()]
    example = ROOT / "config.example.json"
    if example.exists():
        found.append(json.loads(example.read_text()))
    return found


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(4 if depth < 3 else 2)
    if kind <= 1:
        return rng.choice(SCALARS)
    if kind == 2:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def changed(rng: random.Random, document: Any) -> Any:
    """``document`` with something else in one place."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        result = dict(document)
        key = rng.choice(list(result))
        action = rng.randrange(6)
        if action == 0:
            del result[key]
        elif action == 1:
            result[rng.choice(KEYS)] = value(rng)
        else:
            result[key] = changed(rng, result[key])
        return result
    if isinstance(document, list) and document and rng.random() < 0.85:
        items = list(document)
        index = rng.randrange(len(items))
        if rng.random() < 0.2:
            items.insert(index, items[index])
        else:
            items[index] = changed(rng, items[index])
        return items
    return value(rng)


def load(path: Path) -> bool:
    """Whether the file is a configuration; what is said of any other names the file."""
    try:
        Config.load(path).node_dir(1).exists()
    except ConfigError as error:
        is_one_line(error, names=str(path))
        return False
    return True


@pytest.mark.parametrize("rounds", [600, pytest.param(30_000, marks=pytest.mark.full)])
def test_a_changed_configuration_is_taken_or_refused_in_one_line(
    tmp_path: Path, seed: int, rounds: int
) -> None:
    rng = random.Random(seed)
    path = tmp_path / "config.json"
    taken = 0
    for _ in range(rounds):
        document = rng.choice(examples())
        for _ in range(rng.choice((1, 1, 2))):
            document = changed(rng, document)
        text = json.dumps(document)
        data = text.encode()
        path.write_bytes(mutate(rng, data) if rng.random() < 0.3 else data)
        taken += load(path)
    assert 0 < taken < rounds


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_no_configuration(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    assert not load(path)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000])
def test_a_document_that_is_too_deep_or_a_number_too_long_is_refused(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        read_document(path)
