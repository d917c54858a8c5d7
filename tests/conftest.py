"""One seed for a whole test run: CONSENSUSLLM_SEED, or a random one; it is shown at the top.

Hypothesis draws from it, and tests that need randomness of their own take the fixture ``seed``.
Run again with the same CONSENSUSLLM_SEED to see the same cases.

A run under nohup, or in the background of a shell, is started with signals ignored, and all that it
starts would ignore them too; processes under test are to see them as they are by default.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SEED = int(os.environ.get("CONSENSUSLLM_SEED") or secrets.randbits(32))

TYPE_CHECK = "test_every_type_is_right"
TYPE_CHECKER = pytest.StashKey[subprocess.Popen[str]]()

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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the type check, which takes long, beside the tests that come before it."""
    wanted = any(item.name == TYPE_CHECK for item in session.items)
    if wanted and not session.config.option.collectonly:
        program = Path(sys.executable).with_name("mypy")
        session.stash[TYPE_CHECKER] = subprocess.Popen(
            [program],
            cwd=session.config.rootpath,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if TYPE_CHECKER in session.stash:
        session.stash[TYPE_CHECKER].kill()
        session.stash[TYPE_CHECKER].wait()


def pytest_report_header() -> str:
    return f"CONSENSUSLLM_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminalreporter.line(f"rerun these cases with CONSENSUSLLM_SEED={SEED}")


@pytest.fixture(scope="session")
def type_checker(request: pytest.FixtureRequest) -> subprocess.Popen[str]:
    """mypy of the whole tree, since the tests were collected; its output is small."""
    return request.session.stash[TYPE_CHECKER]


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of this run."""
    return SEED
