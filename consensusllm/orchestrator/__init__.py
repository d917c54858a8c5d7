"""The network between the nodes, run as a process of its own: relay, injected faults, trace."""

from .administration import FaultsServicer
from .client import (
    FaultList,
    FaultRefused,
    FaultsClient,
    Order,
    ProcessFailed,
    ProcessHandler,
    TraceEvent,
)
from .faults import BadFault, Decision, FaultTable
from .launchers import Launchers
from .server import RunningServer, serve_faults, serve_orchestrator

__all__ = [
    "BadFault",
    "Decision",
    "FaultList",
    "FaultRefused",
    "FaultTable",
    "FaultsClient",
    "FaultsServicer",
    "Launchers",
    "Order",
    "ProcessFailed",
    "ProcessHandler",
    "RunningServer",
    "TraceEvent",
    "serve_faults",
    "serve_orchestrator",
]
