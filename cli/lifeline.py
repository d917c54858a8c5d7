"""A lifeline: a pipe whose other end is held by the launcher, and by nobody else.

However the launcher ends, its end of the pipe closes; the child then ends as by SIGTERM, and ten
seconds later at once. That is twice the time that a launcher gives its children: one that hangs on
a lifeline itself (of a drill) can still kill those that do not end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

GRACE_S = 10.0


def end_with(descriptor: int) -> None:
    """End this process when the other end of the pipe ``descriptor`` closes."""
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(descriptor,), name="lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
