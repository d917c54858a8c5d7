"""One line of the REPL, from a shell: what the commands that have a twin there do."""

from __future__ import annotations

import asyncio
from typing import Any


def run_line(cluster: dict[str, Any], *words: object) -> int:
    """Run one line of the REPL."""
    from .addresses import resolve_cluster
    from .repl.command import run_commands

    line = " ".join(str(word) for word in words if word != "")
    return asyncio.run(run_commands(resolve_cluster(**cluster), (line,)))
