"""A whole cluster in one process, under a simulated clock, network and disk, driven from a seed."""

from .campaign import run_all
from .faults import Fault, UnknownFault, from_json, parse_kinds, to_json
from .run import Result, Scenario, run
from .shrink import shrink

__all__ = [
    "Fault",
    "Result",
    "Scenario",
    "UnknownFault",
    "from_json",
    "parse_kinds",
    "run",
    "run_all",
    "shrink",
    "to_json",
]
