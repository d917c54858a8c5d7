"""Owns the list of all commands, in the order of the help."""

from __future__ import annotations

from . import (
    asking,
    budgets,
    cluster,
    conversations,
    councils,
    drills,
    faults,
    keys,
    members,
    models,
    shell,
    trace,
    transfer,
    verify,
)
from .parser import Table

COMMANDS = (
    *conversations.COMMANDS,
    *asking.COMMANDS,
    *councils.COMMANDS,
    *transfer.COMMANDS,
    *verify.COMMANDS,
    *keys.COMMANDS,
    *cluster.COMMANDS,
    *models.COMMANDS,
    *budgets.COMMANDS,
    *members.COMMANDS,
    *trace.COMMANDS,
    *faults.COMMANDS,
    *drills.COMMANDS,
    *shell.COMMANDS,
)
TABLE = Table(COMMANDS)
