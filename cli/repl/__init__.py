"""The REPL: a client for people and scripts. The table of commands is what all of it reads."""

from .command import repl
from .table import COMMANDS

__all__ = ["COMMANDS", "repl"]
