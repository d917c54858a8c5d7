"""Keeps Python from stopping a node's event loop: its collector of cycles, and its other threads.

The collector looks at every object, the older ones more rarely; with a large state one full look
takes a good part of a second, and the node's event loop waits. The state needs no collector: its
records form no cycles. So what outlives a look at the young objects is taken for a part of the
state and is never looked at again. What is lost by it: a cycle that was in use at such a moment and
is dropped later (a connection's, a query's; some hundred bytes) is not found any more.

A thread that computes (one that reads a peer's snapshot, for one) keeps the interpreter for a whole
switch interval each time that the loop wants it: 5 ms, where nothing else is said.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

_NEW_OBJECTS = 2_000
_LOOKS = 10
"""A look at the youngest after so many new objects; after so many looks, one at what outlived
them."""
_NEVER = 1 << 30
_SWITCH_S = 0.001


def keep_short() -> None:
    """For the rest of the process; to be called once its state has been read."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_NEW_OBJECTS, _LOOKS, _NEVER)
    if _settle not in gc.callbacks:
        gc.callbacks.append(_settle)


def _settle(phase: str, about: dict[str, Any]) -> None:
    if phase == "stop" and about["generation"] >= 1:
        gc.freeze()
