"""``bench`` and the signals that it is told to end by."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from consensusllm_cli.bench import bench, measured


class Signalled:
    """A measurement that this process gets a signal in the middle of."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    async def run(self) -> Any:
        os.kill(os.getpid(), self.number)
        await asyncio.Event().wait()


class Asked:
    """A measurement that says what a signal does in the middle of it."""

    async def run(self) -> Any:
        return signal.getsignal(signal.SIGHUP)


@pytest.fixture
def hang_ups_are_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_measurement_ends_when_it_is_told_to(number: signal.Signals) -> None:
    bench: Any = Signalled(number)
    with pytest.raises(click.Abort):
        measured(bench)


@pytest.mark.usefixtures("hang_ups_are_ignored")
def test_a_measurement_under_nohup_outlives_its_terminal() -> None:
    bench: Any = Asked()
    found: Any = measured(bench)
    assert found is signal.SIG_IGN


def test_what_nobody_asked_for_can_do_is_misuse() -> None:
    result = CliRunner().invoke(bench, ["--only", "scale", "--systems", "orchestrated"])
    assert result.exit_code == 2
    assert "Error: orchestrated cannot do scale: add direct to --systems\n" in result.output
