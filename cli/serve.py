"""``consensusllm node`` and ``consensusllm orchestrator``: one process that serves until it is told
to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from .polling import poll_in_one_thread

if TYPE_CHECKING:
    from consensusllm.config import Config

_CONFIG = click.option(
    "--config", "config_path", required=True, metavar="FILE", help="The cluster's settings."
)


@click.command()
@click.argument("node_id", metavar="ID", type=click.IntRange(min=1))
@_CONFIG
@click.option(
    "--bootstrap",
    is_flag=True,
    help="First start of a whole new cluster: make this node's data. Never for a node that has "
    "lost its data; without this it rejoins.",
)
@click.pass_context
def node(context: click.Context, node_id: int, config_path: str, bootstrap: bool) -> None:
    """Run node ID until SIGTERM or Ctrl-C."""
    poll_in_one_thread()
    from consensusllm.config import Config
    from consensusllm.logs import configure

    config = Config.load(config_path)
    config.node(node_id)
    verbose = bool(getattr(context.obj, "verbose", False))
    configure(config.log.level, config.log.format, verbose=verbose)
    from consensusllm.server import run_node

    run(run_node(config, node_id, bootstrap=bootstrap))


@click.command()
@_CONFIG
@click.pass_context
def orchestrator(context: click.Context, config_path: str) -> None:
    """Run the network between the nodes until SIGTERM or Ctrl-C."""
    poll_in_one_thread()
    from consensusllm.config import Config
    from consensusllm.logs import configure

    config = Config.load(config_path)
    if config.network == "direct":
        raise click.UsageError('this cluster has no orchestrator: its network is "direct"')
    verbose = bool(getattr(context.obj, "verbose", False))
    configure(config.log.level, config.log.format, verbose=verbose)
    run(relay(config))


async def relay(config: Config) -> None:
    """Serve the relay and the fault commands until SIGTERM or SIGINT."""
    from consensusllm.orchestrator import serve_orchestrator
    from consensusllm.wire.peer import summarise

    token = config.orchestrator.token
    server = await serve_orchestrator(
        config.orchestrator.address,
        config.cluster_id,
        [node.id for node in config.nodes],
        token.get_secret_value() if token else None,
        summarise=summarise,
        max_message_bytes=config.limits.message_bytes,
    )
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    try:
        await told_to_stop.wait()
    finally:
        await server.stop()


_SWITCH_S = 0.001
"""How long a busy event loop may keep the disk's thread waiting for the interpreter."""
_COLLECT_EVERY = 20_000
"""New containers before the garbage collector looks at them: hardly any of them is garbage."""


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on the fastest event loop that is installed."""
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what was imported lives as long as the process: never look at it again
    gc.set_threshold(_COLLECT_EVERY)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
