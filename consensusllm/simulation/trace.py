"""What happened, in order: the last lines of it, or all. Lines are made only when they are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass

from consensusllm.paxos.batch import Batch

TAIL_LINES = 400
_SHOWN_CHARACTERS = 240


class Trace:
    """``clock`` gives the simulated seconds; ``whole`` keeps everything, else a tail is kept."""

    def __init__(self, clock: Callable[[], float], *, whole: bool = False) -> None:
        self._clock = clock
        self._lines: deque[tuple[float, int, str, object]] = deque(
            maxlen=None if whole else TAIL_LINES
        )

    def add(self, node: int, what: str, detail: object = "") -> None:
        """``node`` 0 is the world around the cluster; ``detail`` is never changed afterwards."""
        self._lines.append((self._clock(), node, what, detail))

    def lines(self) -> Iterator[str]:
        for time_s, node, what, detail in self._lines:
            who = f"node {node}" if node else "world"
            yield f"{time_s:12.6f}  {who:<7} {what:<10} {_shown(detail)}".rstrip()


def _shown(value: object) -> str:
    """One line for ``value``: messages by their fields, batches by their sizes."""
    if is_dataclass(value) and type(value).__str__ is object.__str__:
        named = ((each, getattr(value, each.name)) for each in fields(value))
        told = [
            f"{each.name}={_shown(held)}"
            for each, held in named
            if each.name != "sender" and held != each.default
        ]
        text = f"{type(value).__name__}({', '.join(told)})"
    elif isinstance(value, tuple):
        text = "[" + ", ".join(map(_shown, value[:4])) + (", …" if len(value) > 4 else "") + "]"
    elif isinstance(value, Batch):
        text = "no-op" if value.is_noop else f"{len(value.unpack()[1])} commands"
    else:
        text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
