"""``consensusllm up``: a whole cluster on this machine, from its data directory to its end.

What can be wrong is found before the first process is started: the options, the configuration, who
uses the data directory, and every port.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Whole

if TYPE_CHECKING:
    from consensusllm.config import Config

    from .record import Record

_ANY = {"0.0.0.0", "::"}
"""Who listens there does so at every address of the machine."""


class UpError(Exception):
    """One line that says why the cluster cannot be started here, and what to do."""


@click.command(short_help="Start a whole cluster on this machine and look after it.")
@click.option("--config", "config_path", type=click.Path(), metavar="FILE", help="Its settings.")
@click.option("--nodes", type=Whole(1, 9), help="How many nodes; 3 for a new cluster.")
@click.option("--data-dir", type=click.Path(), help="Default: ./consensusllm-data.")
@click.option(
    "--base-port",
    type=Whole(1, 65535 - 9),
    help="Orchestrator on this port, node I on this one plus I; default 5100.",
)
@click.option("--direct", is_flag=True, help="Nodes dial each other; no orchestrator between.")
@click.option("--repl", is_flag=True, help="Run the REPL here; the cluster ends with it.")
@click.option("--log-dir", type=click.Path(), help="Default: logs in the data directory.")
@click.pass_context
def up(
    context: click.Context,
    config_path: str | None,
    nodes: int | None,
    data_dir: str | None,
    base_port: int | None,
    direct: bool,
    repl: bool,
    log_dir: str | None,
) -> int:
    """Start an orchestrator and its nodes on this machine, and end them all on Ctrl-C.

    Prints one line `ready: ...` once there is a leader. A node that dies stays down until
    `fixNode` or `heal` is said in the REPL; `failNode` kills one as kill -9 does.
    """
    from consensusllm.config import DEFAULT_BASE_PORT, DEFAULT_DATA_DIR, Config, demo_document
    from consensusllm.config_file import read_document

    from .formation import Formation, unusable
    from .supervisor import Cluster, Plan

    if config_path is None:
        source, document = "the demo", demo_document(data_dir=data_dir or DEFAULT_DATA_DIR)
    else:
        for name, value in (("--nodes", nodes), ("--base-port", base_port)):
            if value is not None:
                raise click.UsageError(f"{name} cannot go with --config: the file says it")
        source, document = config_path, read_document(config_path)
    needs = "--data-dir needs the name of a directory, without ${"
    if data_dir == "":
        raise click.UsageError(needs)
    directory = Path(data_dir or Config.from_document(document, source=source).data_dir).absolute()
    if "${" in str(directory):  # the file that the nodes read would have it filled in
        raise click.UsageError(f"{needs}; {directory} has it")
    chosen_with = config_path or "--base-port"

    def settle(formed_nodes: int | None) -> tuple[dict[str, Any], Config]:
        settled = dict(document)
        if config_path is None:
            settled = demo_document(nodes or formed_nodes or 3, base_port or DEFAULT_BASE_PORT)
        settled["data_dir"] = str(directory)
        if direct:
            settled["network"] = "direct"
        return settled, Config.from_document(settled, source=source)

    _, config = settle(None)
    try:
        fresh = not directory.exists()
    except OSError as error:
        raise unusable(directory, error) from None
    if fresh:  # so nobody holds it, and nothing shall be left of a refusal
        check_ports(config, chosen_with)
    formation = Formation(directory)
    try:
        formed = formation.formed()
        document, config = settle(len(formed.nodes) if formed else None)
        check_ports(config, chosen_with, formed)
        formation.form(config)
        logs = Path(log_dir).absolute() if log_dir else directory / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UpError(f"{logs}: {error.strerror}: choose another with --log-dir") from None
        written = formation.write("running-config.json", document)
        verbose = bool(getattr(context.obj, "verbose", False))
        record = formation.formed()
        assert record is not None, "it was formed above"
        plan = Plan(config, written, logs, record, formation.keep, repl, verbose)
        return asyncio.run(Cluster(plan).run())
    finally:
        formation.release()


def check_ports(config: Config, chosen_with: str, formed: Record | None = None) -> None:
    """Raise UpError, naming the first one, where an address cannot be served from here.

    ``chosen_with`` is the option or the file by which other ones can be chosen; ``formed`` says who
    has joined and who is gone.
    """
    from consensusllm.config import split_address

    another = f"or choose another with {chosen_with}"
    wanted = [("the orchestrator", str(config.orchestrator.address), another)]
    addresses = {node.id: str(node.address) for node in config.nodes}
    joined = dict(formed.joined) if formed is not None else {}
    if formed is not None:
        known = addresses | joined
        addresses = {node: known[node] for node in formed.running(addresses)}
    for node, address in addresses.items():
        remedy = "for it joined with that port, and keeps it" if node in joined else another
        wanted.append((f"node {node}", address, remedy))
    taken: dict[str, Any] = {}
    for owner, address, remedy in wanted:
        host, port = split_address(address)
        try:
            family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UpError(
                    f"port {port}, meant for {owner}, is in use: stop what listens there, {remedy}"
                ) from None
            raise UpError(
                f"{address}, meant for {owner}, cannot be served from this machine "
                f"({error.strerror}): up starts every node here; "
                "use `consensusllm node ID` on the machine that has the address"
            ) from None
        for other, there in taken.items():
            if where[1] == there[1] and (where[0] == there[0] or _ANY & {where[0], there[0]}):
                stays = {f"node {node}" for node in joined}
                fixed, moved = (other, owner) if other in stays else (owner, other)
                how = "joined with" if fixed in stays else "has"
                raise UpError(
                    f"{fixed} {how} port {port}, which {moved} would have: choose another with "
                    f"{chosen_with}"
                )
        taken[owner] = where
