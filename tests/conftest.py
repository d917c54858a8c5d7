"""One seed for a whole test run: CONSENSUSLLM_SEED, or a random one; it is shown at the top.

Hypothesis draws from it, and tests that need randomness of their own take the fixture ``seed``.
Run again with the same CONSENSUSLLM_SEED to see the same cases.

gRPC hooks into fork, and a child that a terminal's test forks in the middle of a call then dies
before it runs anything: 35 of 200, none without the hooks. The program itself does not fork.

A run under nohup, or in the background of a shell, is started with signals ignored, and all that it
starts would ignore them too; processes under test are to see them as they are by default.
"""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

SEED = int(os.environ.get("CONSENSUSLLM_SEED") or secrets.randbits(32))
os.environ["CONSENSUSLLM_SEED"] = str(SEED)  # for the other processes of this run

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

ON_LOOPBACK = {
    "bench",
    "cli",
    "client",
    "drills",
    "fuzz",
    "integration",
    "llm",
    "orchestrator",
    "transport",
}

# How long an example takes says more of what else runs on the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for number, default in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(SEED)


class Scheduler(LoadScopeScheduling):
    """Whoever opens ports does so one after another: a port that was free a moment ago, or whose
    node is down for a moment, must not be taken by a test that runs beside. Tests of a file with
    one parameter share what they compute."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if ON_LOOPBACK.intersection(Path(file).parts):
            return "loopback"
        parameter = test.partition("[")[2]
        return f"{file} {parameter}" if parameter else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


def pytest_report_header() -> str:
    return f"CONSENSUSLLM_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminalreporter.line(f"rerun these cases with CONSENSUSLLM_SEED={SEED}")


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of this run."""
    return SEED
