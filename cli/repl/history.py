"""Owns the history of what was typed: a file that only its owner may read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory


def history_path() -> Path | None:
    """CONSENSUSLLM_HISTORY, or ``consensusllm/history`` where XDG keeps state; None for a user
    without a home."""
    if chosen := os.environ.get("CONSENSUSLLM_HISTORY"):
        return Path(chosen)
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "consensusllm" / "history"


def open_history(path: Path | None) -> History:
    """The history in ``path``; one that ends with the process where there is none, or it cannot be
    written."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return _KeptHistory(str(path))


class _KeptHistory(FileHistory):
    """Keeps what it can: a full disk, or bytes that are not UTF-8, must not end the prompt."""

    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):
            super().store_string(string.encode("utf-8", "replace").decode())
