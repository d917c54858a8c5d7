"""Whether a recorded history of concurrent operations is linearizable, and if not, why. Pure."""

from .checker import Report, check
from .formats import Format, read_history
from .history import History, MalformedHistory, Operation, to_line
from .search import Verdict

__all__ = [
    "Format",
    "History",
    "MalformedHistory",
    "Operation",
    "Report",
    "Verdict",
    "check",
    "read_history",
    "to_line",
]
