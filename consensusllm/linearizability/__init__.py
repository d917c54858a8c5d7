"""Whether a recorded history of concurrent operations is linearizable, and if not, why. Pure."""

from .checker import Report, check
from .explain import Explanation, explain
from .formats import Format, read_history
from .history import History, MalformedHistory, Operation, to_line
from .picture import render_html, render_svg
from .search import Verdict
from .timeline import printable, render_text

__all__ = [
    "Explanation",
    "Format",
    "History",
    "MalformedHistory",
    "Operation",
    "Report",
    "Verdict",
    "check",
    "explain",
    "printable",
    "read_history",
    "render_html",
    "render_svg",
    "render_text",
    "to_line",
]
