"""Which version of the code this is, for whoever wants to repeat what it did."""

from __future__ import annotations

import subprocess
from pathlib import Path

from consensusllm import __version__


def commit() -> str:
    """Which code this is, as far as can be told."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return f"of release {__version__}"
    return described.stdout.strip()
