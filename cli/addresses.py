"""Where a command finds its cluster, and what it shows there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from consensusllm.config import (
    DEFAULT_BASE_PORT,
    Config,
    Token,
    check_token,
    demo_config,
    split_address,
)
from consensusllm.config_file import ConfigError

from .record import DataDirError, read_record


@dataclass(frozen=True, slots=True)
class ClusterAddresses:
    """Where a client finds a cluster.

    ``nodes`` is never empty and may name only some of the members: the others are learnt from them.
    ``by_id`` is empty, and ``orchestrator`` None, where only addresses were given; ``cluster_id``
    is empty where no file says it, for any cluster may use the demo's ports.
    """

    nodes: tuple[str, ...]
    by_id: Mapping[int, str] = field(default_factory=dict)
    orchestrator: str | None = None
    client_token: Token | None = None
    orchestrator_token: Token | None = None
    cluster_id: str = ""


def resolve_cluster(
    config_path: str | Path | None, base_port: int | None, connect: str | None
) -> ClusterAddresses:
    """Where the cluster is that a client command names: by a file, by the demo's base port (the
    default, 5100), or by ``HOST:PORT,...``. What has become of a file's cluster is looked up in its
    data directory, where that is here.

    Without a file the tokens are those of the environment: CONSENSUSLLM_CLIENT_TOKEN and
    CONSENSUSLLM_ORCHESTRATOR_TOKEN. Raises ConfigError, also for more than one way.
    """
    ways = {"--config": config_path, "--base-port": base_port, "--connect": connect}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} say the same thing twice: use only one of them")
    record = None
    if config_path is not None:
        config = Config.load(config_path, serves=())
        with suppress(DataDirError):  # it is the service's, and may be nobody else's
            record = read_record(Path(config.data_dir))
        client_token, orchestrator_token = config.client_token, config.orchestrator.token
    else:
        client_token = _token("CONSENSUSLLM_CLIENT_TOKEN")
        orchestrator_token = _token("CONSENSUSLLM_ORCHESTRATOR_TOKEN")
        if connect is not None:
            nodes = tuple(part.strip() for part in connect.split(",") if part.strip())
            try:
                for address in nodes:
                    split_address(address)
            except ValueError as error:
                raise ConfigError(f"--connect: {error}") from None
            if not nodes:
                raise ConfigError("--connect: needs at least one HOST:PORT")
            return ClusterAddresses(nodes, {}, None, client_token, orchestrator_token)
        config = demo_config(base_port=DEFAULT_BASE_PORT if base_port is None else base_port)
    by_id: dict[int, str] = {node.id: node.address for node in config.nodes}
    if record is not None and record.cluster_id == config.cluster_id:
        known = {**by_id, **record.joined}
        by_id = {node: known[node] for node in record.running(by_id)} or by_id
    return ClusterAddresses(
        tuple(by_id.values()),
        by_id,
        config.orchestrator.address,
        client_token,
        orchestrator_token,
        config.cluster_id if config_path is not None else "",
    )


def _token(variable: str) -> Token | None:
    value = os.environ.get(variable, "")
    try:
        check_token(value)
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}") from None
    return Token(value) if value else None
