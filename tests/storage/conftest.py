"""Fixtures of the storage tests: a formatted replica on each Disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from storage_bench import Bench, MemoryBench, SqliteBench


@pytest.fixture(params=["sqlite", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench = SqliteBench(tmp_path) if request.param == "sqlite" else MemoryBench()
    made.format()
    yield made
    made.dispose()


@pytest.fixture
def sqlite_bench(tmp_path: Path) -> Iterator[SqliteBench]:
    made = SqliteBench(tmp_path)
    made.format()
    yield made
    made.dispose()
