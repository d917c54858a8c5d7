"""Logging for a process: structlog on standard error, as lines for people or as JSON.

What libraries log through the standard library comes out in the same form. Colour only where
standard error is a terminal. Nothing here sees a secret: the configuration keeps them wrapped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from structlog.typing import Processor


@contextmanager
def _without(module: str) -> Iterator[None]:
    """``module`` cannot be imported meanwhile, unless it was before."""
    modules: dict[str, Any] = sys.modules
    if module in modules:
        yield
        return
    modules[module] = None
    try:
        yield
    finally:
        del modules[module]


# Where rich is installed structlog imports it, for tracebacks that are not ours (see `configure`).
with _without("rich"):
    import structlog

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_CHATTY = ("asyncio", "google_genai", "grpc", "httpcore", "httpx", "openai", "urllib3")
"""Libraries whose everyday messages are noise; their warnings are not."""

_GRPC_SERVER = "grpc._cython.cygrpc"


def configure(
    level: str = "info",
    form: str = "console",
    *,
    verbose: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send this process's log to ``stream``, or to standard error.

    ``level`` is debug, info, warning or error; ``form`` is console or json; ``verbose`` is debug.
    """
    stream = stream or sys.stderr
    threshold = logging.DEBUG if verbose else _LEVELS[level]
    stamp: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain tracebacks: the pretty ones show local variables, and a local may be a secret.
        plain = structlog.dev.plain_traceback
        renderer = [
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)
        ]
    structlog.configure(
        processors=[*stamp, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamp, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(_GRPC_SERVER).addFilter(_means_something)
    logging.raiseExceptions = False  # a terminal that has gone must not stop the process


def _means_something(record: logging.LogRecord) -> bool:
    """Not so where gRPC logs a traceback because a caller hung up while its answer was sent."""
    return not str(record.msg).startswith("ExecuteBatchError raised in core")
