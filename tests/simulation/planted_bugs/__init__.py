"""Bugs to plant, one for each rule that toy versions get wrong, and where each is planted.

Every one replaces a method of the product by one that breaks a single rule. A module holds the bugs
of one concept; importing it here is what enters them in `BUGS`.
"""

from . import budgets, consensus, councils, liveness, membership, reads, state, storage
from .bug import BUGS, Bug, Patch

__all__ = [
    "BUGS",
    "Bug",
    "Patch",
    "budgets",
    "consensus",
    "councils",
    "liveness",
    "membership",
    "reads",
    "state",
    "storage",
]
