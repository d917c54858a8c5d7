"""Whole simulated clusters: no violation, the same run from the same seed, and the command."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consensusllm.paxos.proposer import Proposer
from consensusllm.simulation import Scenario, from_json, parse_kinds, run, run_all, shrink, to_json
from consensusllm_cli.main import commands
from consensusllm_cli.main import run as run_command

DIGEST = """
import hashlib
from consensusllm.simulation import Scenario, parse_kinds, run
for seed in (3, 4):
    result = run(Scenario(seed, seconds=20.0, kinds=parse_kinds("all")), whole_trace=True)
    assert not result.broken, result.reason
    text = "\\n".join(result.trace)
    print(len(result.trace), hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_three_nodes_keep_every_invariant_under_all_faults(seed: int) -> None:
    result = run(Scenario(seed, seconds=60.0, kinds=parse_kinds("all")))
    assert not result.broken, result.reason
    assert result.figures["operations checked"] > 50
    assert result.simulated_s >= 60.0


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_other_sizes_keep_every_invariant_under_all_faults(nodes: int) -> None:
    result = run(Scenario(1, nodes=nodes, seconds=40.0, kinds=parse_kinds("all")))
    assert not result.broken, result.reason


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_an_hour_in_all_keeps_every_invariant(seed: int) -> None:
    nodes = 5 if seed % 3 == 0 else 3
    result = run(Scenario(seed, nodes=nodes, seconds=300.0, kinds=parse_kinds("all")))
    assert not result.broken, result.reason


def test_the_same_seed_gives_the_same_events_under_any_hash_seed() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    }
    assert len(runs) == 1
    assert int(runs.pop().split()[0]) > 1000


def test_a_run_does_not_depend_on_those_before_it() -> None:
    scenario = Scenario(5, seconds=20.0, kinds=parse_kinds("all"))
    first = run(scenario, whole_trace=True)
    run(Scenario(6, seconds=20.0))
    assert run(scenario, whole_trace=True).trace == first.trace


# Failures ---------------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposer that forgets what it finds accepted."""
    lead = Proposer.lead

    def ignorant(self: Proposer, now: float) -> None:
        self._recovered = {}
        lead(self, now)

    monkeypatch.setattr(Proposer, "lead", ignorant)


SEED = 2
ARGUMENTS = ["simulate", "--seed", str(SEED), "--hours", "0.01", "--faults", "depose,crash,lose"]


@pytest.mark.usefixtures("broken")
def test_a_failing_schedule_is_shortened_to_one_that_still_fails() -> None:
    kinds = parse_kinds("depose,crash,lose")
    failed = run(Scenario(SEED, seconds=36.0, kinds=kinds))
    assert failed.broken
    short = shrink(failed)
    assert short.broken == failed.broken
    assert len(short.faults) < len(failed.faults)
    again = run(short.scenario)
    assert (again.broken, again.reason) == (short.broken, short.reason)


@pytest.mark.usefixtures("broken")
def test_a_failure_names_seed_invariant_and_how_to_reproduce_it() -> None:
    shown = CliRunner().invoke(commands, ARGUMENTS, standalone_mode=False)
    assert shown.return_value == 1
    assert f"seed {SEED} breaks an invariant" in shown.output
    assert f"reproduce it: consensusllm simulate --seed {SEED} --hours 0.01" in shown.output
    assert "node 1" in shown.output


@pytest.mark.usefixtures("broken")
def test_what_reproduces_a_failure_has_its_pace() -> None:
    pace = ["--think", "0.2", "--heartbeat-ms", "40"]
    arguments = [*ARGUMENTS, *pace]
    shown = CliRunner().invoke(commands, [*arguments, "--json"], standalone_mode=False)
    failure = json.loads(shown.stdout)["failures"][0]
    assert " ".join(pace) in failure["reproduce"]
    again = CliRunner().invoke(
        commands, [*shlex.split(failure["reproduce"])[1:], "--json"], standalone_mode=False
    )
    assert json.loads(again.stdout)["failures"] == [failure]


@pytest.mark.usefixtures("broken")
def test_what_reproduces_a_failure_has_its_schedule_wherever_that_is(tmp_path: Path) -> None:
    path = tmp_path / "the leader's faults"
    hours = ["--hours", "0.0100000001"]
    kinds = parse_kinds("depose,crash,lose")
    path.write_text(to_json(run(Scenario(SEED, seconds=36.0, kinds=kinds)).faults))
    arguments = ["simulate", "--seed", str(SEED), *hours, "--schedule", str(path), "--json"]
    shown = CliRunner().invoke(commands, arguments, standalone_mode=False)
    failure = json.loads(shown.stdout)["failures"][0]
    reproduce = shlex.split(failure["reproduce"])[1:]
    assert " ".join(hours) in failure["reproduce"]
    again = CliRunner().invoke(commands, [*reproduce, "--json"], standalone_mode=False)
    assert json.loads(again.stdout)["failures"] == [failure]


@pytest.mark.usefixtures("broken")
def test_a_shorter_schedule_that_cannot_be_written_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"seed-{SEED}.faults").mkdir()
    shown = CliRunner().invoke(commands, [*ARGUMENTS, "--shrink"], standalone_mode=False)
    assert shown.return_value == 1
    assert f"seed-{SEED}.faults cannot be written here: Is a directory" in shown.stderr
    shorter = shown.stderr[shown.stderr.index("faults are enough to break it") :]
    assert "round 1 +" in shorter


@pytest.mark.usefixtures("broken")
def test_a_failure_in_json_has_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(commands, [*ARGUMENTS, "--json", "--shrink"], standalone_mode=False)
    report: dict[str, Any] = json.loads(shown.stdout)
    assert report["failed"] == 1
    (failure,) = report["failures"]
    assert failure["seed"] == SEED
    assert failure["invariant"]
    assert failure["trace"]
    assert from_json((tmp_path / f"seed-{SEED}.faults").read_text())


def test_a_seed_whose_process_dies_has_failed_and_the_others_are_run() -> None:
    scenarios = [Scenario(seed, seconds=1.0, faults=()) for seed in (1, 2, 3)]

    def kill_one() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    results = list(run_all(scenarios, 2))
    killer.join()
    assert sorted(result.scenario.seed for result in results) == [1, 2, 3]
    (dead,) = (result for result in results if result.broken)
    assert "died with exit code -9" in dead.reason
    assert all(result.rounds for result in results if result is not dead)
    assert multiprocessing.active_children() == []


def test_without_a_violation_the_figures_are_shown() -> None:
    shown = CliRunner().invoke(
        commands, ["simulate", "--seeds", "1..2", "--hours", "0.003"], standalone_mode=False
    )
    assert shown.return_value == 0
    assert "operations checked" in shown.output
    assert "2 seeds" in shown.output
    assert "no violation" in shown.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "9..2"], "upside down"),
        (["--seeds", "all"], "not a range"),
        (["--seeds", "1..999999999"], "too many"),
        (["--seeds", "1..2", "--seed", "3"], "use one of them"),
        (["--seeds", "1..2", "--trace"], "for one seed"),
        (["--faults", "fire"], "no fault is called 'fire'"),
        (["--nodes", "0"], "0 is not in the range"),
        (["--hours", "0"], "0"),
        (["--hours", "nan"], "nan is not a finite number"),
        (["--seed", "1", "--trace", "--json"], "leave one of them out"),
        (["--think", "0"], "0"),
        (["--heartbeat-ms", "1"], "1 is not in the range"),
        (["--schedule", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
