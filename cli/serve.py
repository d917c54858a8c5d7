"""``consensusllm node`` and ``consensusllm orchestrator``: one process that serves until it is told
to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any

import click

from .options import Whole
from .polling import poll_in_one_thread

if TYPE_CHECKING:
    from consensusllm.config import Config

_CONFIG = click.option(
    "--config", "config_path", required=True, metavar="FILE", help="The cluster's settings."
)


@click.command()
@click.argument("node_id", metavar="ID", type=Whole(min=1))
@_CONFIG
@click.option(
    "--bootstrap",
    is_flag=True,
    help="First start of a whole new cluster: make this node's data. Never for a node that has "
    "lost its data; without this it rejoins.",
)
@click.option(
    "--rejoin",
    is_flag=True,
    help="Where the node's data is lost or damaged, learn it from nodes that were added later, "
    "though the configuration lists no other.",
)
@click.option(
    "--join",
    metavar="HOST:PORT",
    default="",
    help="The node is not in the configuration: it listens here, and becomes a member by addNode.",
)
@click.pass_context
def node(
    context: click.Context,
    node_id: int,
    config_path: str,
    bootstrap: bool,
    rejoin: bool,
    join: str,
) -> None:
    """Run node ID until SIGTERM or Ctrl-C."""
    poll_in_one_thread()
    gc.disable()  # what is imported stays: to look for garbage in it is a tenth of a start
    from consensusllm.config import Config

    config = Config.load(config_path, serves=(node_id,))
    if join and bootstrap:
        raise click.UsageError("--join is for a cluster that runs, and --bootstrap for a new one")
    if rejoin and bootstrap:
        raise click.UsageError(
            "--rejoin is for data that is lost, and --bootstrap for a new cluster"
        )
    if join:
        config.joining(node_id, join)
    else:
        config.node(node_id)
    from consensusllm.logs import configure

    verbose = bool(getattr(context.obj, "verbose", False))
    configure(config.log.level, config.log.format, verbose=verbose)
    from consensusllm.server import run_node

    run(run_node(config, node_id, bootstrap=bootstrap, rejoin=rejoin, join=join))


@click.command()
@_CONFIG
@click.option(
    "--without",
    metavar="ID",
    type=Whole(min=1),
    multiple=True,
    help="A node of the configuration that was removed; may be repeated.",
)
@click.pass_context
def orchestrator(context: click.Context, config_path: str, without: tuple[int, ...]) -> None:
    """Run the network between the nodes until SIGTERM or Ctrl-C."""
    poll_in_one_thread()
    gc.disable()  # what is imported stays: to look for garbage in it is a tenth of a start
    from consensusllm.config import Config

    config = Config.load(config_path, serves=())
    if config.network == "direct":
        raise click.UsageError('this cluster has no orchestrator: its network is "direct"')
    from consensusllm.logs import configure

    verbose = bool(getattr(context.obj, "verbose", False))
    configure(config.log.level, config.log.format, verbose=verbose)
    run(relay(config, without))


async def relay(config: Config, without: Collection[int] = ()) -> None:
    """Serve the relay and the fault commands until SIGTERM or SIGINT."""
    from consensusllm.orchestrator import serve_orchestrator
    from consensusllm.wire.peer import summarise

    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # before anybody can see that it serves
        loop.add_signal_handler(number, told_to_stop.set)
    token = config.orchestrator.token
    server = await serve_orchestrator(
        config.orchestrator.address,
        config.cluster_id,
        [node.id for node in config.nodes if node.id not in without],
        token.reveal() if token else None,
        summarise=summarise,
        max_message_bytes=config.limits.message_bytes,
    )
    try:
        await told_to_stop.wait()
    finally:
        await server.stop()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on the fastest event loop that is installed."""
    gc.freeze()  # what was imported lives as long as the process: never look at it again
    gc.enable()
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
