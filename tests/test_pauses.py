"""Python's collector after `pauses.keep_short`, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc
from consensusllm import pauses

looked = []
pauses.keep_short()
pauses.keep_short()
gc.callbacks.append(lambda phase, about: looked.append(about["generation"]))
kept = [[number] for number in range(500_000)]
assert 1 in looked, "young objects are looked at"
assert 2 not in looked, "and old ones never"
assert gc.get_freeze_count() > 400_000, "what outlived that is left alone"

class Node: pass
def cycle():
    node = Node()
    node.itself = node
    return node
import weakref
gone = weakref.ref(cycle())
more = [[number] for number in range(500_000)]
assert gone() is None, "a young cycle is found"
"""


def test_the_collector_never_looks_at_the_whole_state_again() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
