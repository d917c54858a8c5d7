"""What the tables of docs/SCALING.md rest on; time is simulated, so figures may be asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensusllm.config import Config, PaxosSettings
from consensusllm.config_file import read_document
from consensusllm.simulation.scaling import (
    BATCHES,
    COMMAND_US,
    ELECTION_TIMEOUT_S,
    HEARTBEAT_S,
    NODES,
    load,
    load_table,
    measure,
    table,
)

SCALING = Path(__file__).parents[2] / "docs" / "SCALING.md"


def test_a_write_takes_a_round_trip_at_the_leader_and_two_at_a_follower() -> None:
    row = measure(3, 50.0, writes=10, failovers=1)
    # Delays are from half to one and a half of the average, and the quicker of two peers decides.
    assert 50.0 < row.leader_ms < 150.0
    assert row.leader_ms + 50.0 < row.follower_ms < 300.0
    timeout_ms = 1000 * ELECTION_TIMEOUT_S
    assert row.killed_ms < timeout_ms < row.lost_ms, "connections end at once; silence takes long"
    assert row == measure(3, 50.0, writes=10, failovers=1), "the same seed, the same figures"
    assert table([row]).count("\n") == 2


def test_batches_share_what_a_slot_costs() -> None:
    alone, shared = load(5, 1), load(5, 64)
    assert alone.messages == 8.0
    assert shared.messages == 8.0 / 64
    assert alone.sent_bytes > shared.sent_bytes > 4 * 256
    assert alone.cpu_us > shared.cpu_us > COMMAND_US
    assert load(9, 256).per_second > 0.9 * load(3, 256).per_second, "then numbers cost little"


def test_the_delays_of_heartbeat_and_election_are_the_defaults() -> None:
    defaults = PaxosSettings()
    assert defaults.heartbeat_ms == 1000 * HEARTBEAT_S
    assert defaults.election_timeout_ms == 1000 * ELECTION_TIMEOUT_S


def test_the_document_has_the_table_that_the_code_works_out() -> None:
    loads = [load(nodes, batch) for nodes in NODES for batch in BATCHES]
    assert load_table(loads) in SCALING.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [1, 2])
def test_the_configurations_of_the_document_are_valid(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SERVER_KEY", "secret")
    blocks = SCALING.read_text(encoding="utf-8").split("```json\n")
    assert len(blocks) == 3, "two configurations"
    path = tmp_path / "cluster.json"
    path.write_text(blocks[number].split("```")[0], encoding="utf-8")
    config = Config.from_document(read_document(path), source=str(path))
    assert config.network == "direct"
    assert {model.provider for node in config.nodes for model in node.models} <= {
        "openai",
        "ollama",
        "builtin",
    }
