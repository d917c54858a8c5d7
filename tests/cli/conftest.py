"""What the tests of the REPL share."""

from __future__ import annotations

import pytest

from tests.cli.desk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()
