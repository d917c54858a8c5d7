"""Drills: scripted faults against a real cluster of processes under load, that end in a verdict.

It sees the cluster from outside, as clients, operators and disasters do. The scenarios that ship
are the YAML files of the top folder ``drills``, which is installed as ``consensusllm_drills``.
"""

from __future__ import annotations

from consensusllm.document import DocumentError

from .runner import Outcome, Progress, run_drill
from .scenario import Scenario, find, shipped
from .verdict import Figures, Judgement

__all__ = [
    "DocumentError",
    "Figures",
    "Judgement",
    "Outcome",
    "Progress",
    "Scenario",
    "find",
    "run_drill",
    "shipped",
]
