"""Make `real_cluster` importable by the tests beside it, and a cluster for whole modules."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from real_cluster import RealCluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealCluster]:
    async with RealCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        await cluster.all_registered()
        yield cluster
