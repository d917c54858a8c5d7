"""The configuration: read once from JSON, checked whole, then frozen.

It owns every setting of a cluster and the words for what is wrong with one. It refuses unknown and
repeated keys, wrong types, ids or addresses used twice, and environment variables that are not set,
each in one line that names the file and the key path. Secrets appear in no repr and no error.

Strings may hold ``${NAME}`` or ``${NAME:-default}``; they are filled in from the environment when
the file is parsed, so a file on disk need not hold a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from consensusllm import provider_names as names
from consensusllm.config_file import ConfigError, check, expand, matching, read_document
from consensusllm.secret import Secret

DEFAULT_BASE_PORT = 5100
DEFAULT_DATA_DIR = "consensusllm-data"
NODES_MAX = 9
LOOPBACK = "127.0.0.1"
NAME_BYTES = 255
PATH_BYTES = 470
"""What SQLite takes of a path, with room for what stands below a data directory."""


_SCHEMES = ("dns", "http", "https", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")


def split_address(address: str) -> tuple[str, int]:
    """``("host", port)`` of ``host:port`` or ``[v6]:port``; raises ValueError with the reason."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or any(map(str.isspace, address)):
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:5101")
    known = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    if not known or port.startswith("0"):  # addresses are compared as they are written
        raise ValueError(f"{address!r} needs a port from 1 to 65535")
    name = host.strip("[]")
    if name.lower() in _SCHEMES:
        raise ValueError(
            f"{address!r}: gRPC takes {name!r} for a scheme, so give the host's address"
        )
    try:
        known = bool(name.encode("idna")) and name.isprintable()
    except UnicodeError:  # a part between dots is empty or too long
        known = False
    if not known:
        raise ValueError(f"{address!r:.120} names no host that could be looked up")
    return name, int(port)


class Address(str):
    """``HOST:PORT``, as `split_address` takes it."""


class Token(Secret):
    """A secret that calls carry in a header: printable ASCII."""


class ProviderName(str):
    """A provider of ours, one that an installed package has, or ``auto``."""


class Domains(dict[str, str]):
    """Names that queries may give, and what their models are told first."""


_HOW_IT_IS_CALLED = ("base_url", "api_key", "options")
"""What of a model's settings only the node that serves it reads."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}\Z"
_NAMED = matching(_NAME, "1 to 128 letters, digits and . _ : / + -, a letter or digit first")
_ID = matching(r"^[A-Za-z0-9._-]{1,64}\Z", "1 to 64 letters, digits and . _ -")
DOMAIN_CHARACTERS = 16_384

ModelName = Annotated[str, _NAMED]
Names = Annotated[tuple[ModelName, ...], Meta(max_length=32)]
Price = Annotated[float, Meta(ge=0.0, le=1_000_000.0)]
Tokens = Annotated[int, Meta(ge=1, le=1 << 40)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
DeadlineMilliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
"""At most what the state machine takes."""
MillisecondsOrZero = Annotated[int, Meta(ge=0, le=86_400_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
LogBytes = Annotated[int, Meta(ge=1024, le=256 << 20)]
"""At most what the log of a replica holds."""
RetainedBytes = Annotated[int, Meta(ge=1024, le=64 << 20)]
"""A quarter of that: with more, what is between two snapshots would not fit beside it."""
OPEN_BYTES_MAX = 128 << 20
"""Half of that: a log that is full is then full of what is chosen, which a snapshot clears away."""
MessageBytes = Annotated[int, Meta(ge=2 << 20, le=64 << 20)]
"""Nodes, relay and clients fill messages up to a mebibyte, and a client takes no larger answer."""
COMMAND_OVERHEAD_BYTES = 64 << 10
"""What a command may have besides its longest texts."""
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


def _made(kind: type, value: Any) -> Any:
    """``value``, which JSON has, as ``kind``, which it has not. Raises ValueError."""
    if kind is Domains:
        return _domains(value)
    if not isinstance(value, str):
        raise ValueError("must be text")
    if kind is Address:
        split_address(value)
    elif kind is ProviderName and value not in ("auto", *names.OURS) and not names.plugin(value):
        known = ", ".join(("auto", *names.known()))
        raise ValueError(f"there is no provider {value!r:.80}: name one of {known}")
    elif kind is Path:
        _check_path(value)
    elif kind is Token:
        if not value:  # such as a variable that is set to nothing: it would protect nothing
            raise ValueError("is empty: give a token, or null for none")
        check_token(value)
    return kind(value)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _check_path(value: str) -> None:
    if not value:  # such as a variable that is set to nothing: it would be the working directory
        raise ValueError("is empty: give a path")
    if "\0" in value:
        raise ValueError("is no path: it holds a zero byte")
    names = [len(name.encode()) for name in value.split("/")]
    if max(names) > NAME_BYTES or sum(names) + len(names) > PATH_BYTES:
        raise ValueError(
            f"is no path: a name has at most {NAME_BYTES} bytes, and all of it {PATH_BYTES}"
        )


def check_token(value: str) -> None:
    """Raises ValueError where no header can hold it."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must be printable ASCII, without a line's end")


def _domains(value: Any) -> Domains:
    if not isinstance(value, dict):
        raise ValueError("must be an object of names and texts")
    for name, text in value.items():
        if not re.match(_NAME, name):
            raise ValueError(f"{name!r:.80} is no name: use letters, digits, and any of ._:/+-")
        if not (isinstance(text, str) and 1 <= len(text) <= DOMAIN_CHARACTERS):
            raise ValueError(f"{name} must be text of 1 to {DOMAIN_CHARACTERS} characters")
    return Domains(value)


def _check_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or any(map(str.isspace, value)):
        raise ValueError("base_url must be a URL, such as http://127.0.0.1:8000/v1")


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that belong together; see `check`."""


class PriceConfig(_Section, frozen=True):
    """What a million tokens cost, those of the prompt and those of the answer."""

    prompt: Price = 0.0
    completion: Price = 0.0


class ModelConfig(_Section, frozen=True):
    """A model that a node serves. ``auto`` takes what is there: a Gemini key, a reachable Ollama,
    else the built-in responder. ``options`` are the provider's own.

    ``name`` is what queries call it; left out, that is the model's own name, or the provider's.
    ``fallbacks`` are names of models of any node, to be asked in its place where it fails, and
    beside it where it has not begun to answer after ``hedge_after_s``. ``early``: whether it is
    asked while the question is still being chosen; left out, where its calls cost nothing.
    """

    provider: ProviderName = ProviderName("auto")
    model: str = ""
    base_url: str | None = None
    api_key: Secret | None = None
    options: dict[str, Any] = {}
    name: ModelName | None = None
    price: PriceConfig = PriceConfig()
    context_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    tags: Names = ()
    fallbacks: Names = ()
    hedge_after_s: Annotated[float, Meta(ge=0.001, le=3600.0)] | None = None
    early: bool | None = None

    @property
    def known_name(self) -> str:
        """What queries call it, as far as the configuration alone says; "" where it does not."""
        named = self.name or re.sub(r"[^A-Za-z0-9._:/+-]", "-", self.model)
        return named or names.DEFAULT_MODELS.get(self.provider, "")

    @property
    def has_price(self) -> bool:
        return bool(self.price.prompt or self.price.completion)

    def __post_init__(self) -> None:
        if self.base_url and self.provider in names.BY_URL:
            short = self.provider in names.BY_HOST and "://" not in self.base_url
            _check_url("http://" * short + self.base_url)
        if self.known_name and self.known_name in self.fallbacks:
            raise ValueError(f"fallbacks: {self.known_name} cannot stand in for itself")
        if self.hedge_after_s is not None and not self.fallbacks:
            raise ValueError("hedge_after_s needs fallbacks: nobody else could be asked")
        if self.context_tokens and self.max_tokens and self.max_tokens >= self.context_tokens:
            raise ValueError("max_tokens must be below context_tokens: a question needs room")
        if self.early and self.has_price:
            raise ValueError(
                "early needs a price of 0: a call whose question is not chosen is not counted"
            )


class NodeConfig(_Section, frozen=True):
    """One replica: its id, its gRPC server's address, and its models, the default one first."""

    id: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    address: Address
    models: Annotated[tuple[ModelConfig, ...], Meta(min_length=1, max_length=64)] = (ModelConfig(),)


class OrchestratorConfig(_Section, frozen=True):
    """The relay and its fault commands; ``token`` guards the latter."""

    address: Address = Address(f"{LOOPBACK}:{DEFAULT_BASE_PORT}")
    token: Token | None = None


class PaxosSettings(_Section, frozen=True):
    """Times and bounds of consensus."""

    heartbeat_ms: Milliseconds = 50
    election_timeout_ms: Milliseconds = 1000
    leader_lease_ms: MillisecondsOrZero = 0
    clock_drift_percent: Annotated[float, Meta(ge=0.0, le=50.0)] = 1.0
    max_batch_bytes: Bytes = 1 << 20
    max_batch_commands: Count = 2048
    pipeline_slots: Count = 8
    max_pending_bytes: LogBytes = 32 << 20
    max_pending_commands: Count = 16_384
    snapshot_every_bytes: Bytes = 16 << 20
    snapshot_every_slots: Count = 10_000
    snapshot_bytes_per_s: Bytes = 64 << 20
    log_retain_bytes: RetainedBytes = 8 << 20
    chunk_bytes: Bytes = 512 << 10

    def __post_init__(self) -> None:
        if self.election_timeout_ms < 3 * self.heartbeat_ms:
            raise ValueError("election_timeout_ms must be at least three times heartbeat_ms")
        if self.leader_lease_ms and not (
            2 * self.heartbeat_ms <= self.leader_lease_ms <= self.election_timeout_ms
        ):
            raise ValueError(
                "leader_lease_ms must be 0 (no leases), or at least twice heartbeat_ms and at most "
                "election_timeout_ms"
            )
        if self.snapshot_bytes_per_s < 10 * self.chunk_bytes:
            raise ValueError("snapshot_bytes_per_s must be at least ten times chunk_bytes")
        if self.max_pending_bytes < self.max_batch_bytes:
            raise ValueError("max_pending_bytes must be at least max_batch_bytes")
        if self.pipeline_slots * self.max_batch_bytes > OPEN_BYTES_MAX:
            raise ValueError(
                f"pipeline_slots times max_batch_bytes must be at most {OPEN_BYTES_MAX}"
            )


class AnsweringSettings(_Section, frozen=True):
    """How a node calls its models. ``retries`` are tries after the first one failed; with a
    ``probe_every_ms`` of 0 no server is looked at."""

    deadline_ms: DeadlineMilliseconds = 120_000
    first_token_timeout_ms: Milliseconds = 60_000
    idle_timeout_ms: Milliseconds = 30_000
    retries: Annotated[int, Meta(ge=0, le=20)] = 2
    concurrency: Count = 4
    reassign_after_ms: Milliseconds = 750
    probe_every_ms: MillisecondsOrZero = 10_000


class CouncilSettings(_Section, frozen=True):
    """``templates`` is a directory with templates of one's own, beside those that ship."""

    templates: Path | None = None


class Limits(_Section, frozen=True):
    """Sizes in bytes of UTF-8 or of raw values; what is larger is refused early, where it comes in.

    Their upper ends are the state machine's own bounds, which are the same on every node.
    """

    question_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 1 << 20
    answer_bytes: Annotated[int, Meta(ge=1024, le=4 << 20)] = 1 << 20
    value_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 1 << 20
    message_bytes: MessageBytes = 16 << 20


class LogSettings(_Section, frozen=True):
    """What a process writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(_Section, frozen=True, kw_only=True):
    """A whole cluster; every process of it reads the same file. All but ``nodes`` has a default."""

    cluster_id: Annotated[str, _ID] = "demo"
    network: Literal["orchestrated", "direct"] = "orchestrated"
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    nodes: tuple[NodeConfig, ...]
    orchestrator: OrchestratorConfig = OrchestratorConfig()
    client_token: Token | None = None
    paxos: PaxosSettings = PaxosSettings()
    answering: AnsweringSettings = AnsweringSettings()
    council: CouncilSettings = CouncilSettings()
    limits: Limits = Limits()
    domains: Domains = Domains()
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        self._nothing_twice()
        self._models_are_known()
        self._fit_in_a_message()

    def _nothing_twice(self) -> None:
        if not 1 <= len(self.nodes) <= NODES_MAX:
            raise ValueError(f"nodes: a cluster has 1 to {NODES_MAX} nodes, not {len(self.nodes)}")
        ids: set[int] = set()
        addresses = {self.orchestrator.address: "the orchestrator"}
        for index, node in enumerate(self.nodes):
            if node.id in ids:
                raise ValueError(f"nodes[{index}].id: another node has the id {node.id}")
            ids.add(node.id)
            if owner := addresses.get(node.address):
                raise ValueError(f"nodes[{index}].address: {owner} has the address {node.address}")
            addresses[node.address] = f"node {node.id}"

    def _models_are_known(self) -> None:
        names: list[str] = []
        for index, node in enumerate(self.nodes):
            own: list[str] = []
            for place, model in enumerate(node.models):
                if model.known_name and model.known_name in own:
                    raise ValueError(
                        f"nodes[{index}].models[{place}].name: another model of node {node.id} is "
                        f"named {model.known_name}: give this one a name of its own"
                    )
                own.append(model.known_name)
            names += own
        if all(names):  # else some are only known when their nodes run
            for index, node in enumerate(self.nodes):
                for place, model in enumerate(node.models):
                    for fallback in model.fallbacks:
                        if fallback not in names:
                            where = f"nodes[{index}].models[{place}].fallbacks"
                            raise ValueError(f"{where}: {_unknown(fallback, names)}")

    def _fit_in_a_message(self) -> None:
        limits, paxos = self.limits, self.paxos
        # A question comes with a system prompt, and a value with the one that it replaces.
        texts = max(2 * limits.question_bytes, limits.answer_bytes, 2 * limits.value_bytes)
        command = texts + COMMAND_OVERHEAD_BYTES
        least = 2 * max(command, paxos.max_batch_bytes, paxos.chunk_bytes)
        if limits.message_bytes < least:
            raise ValueError(
                f"limits.message_bytes must be at least {least} with these other limits, "
                "paxos.max_batch_bytes and paxos.chunk_bytes"
            )
        if paxos.max_pending_bytes < command:
            raise ValueError(
                f"paxos.max_pending_bytes must be at least {command} with these limits: a larger "
                "command would never find room"
            )

    @classmethod
    def load(cls, path: str | Path, serves: Collection[int] | None = None) -> Config:
        """The configuration in the file ``path``, for a process that serves the models of the nodes
        ``serves`` (None: of all). How the others are called stays out, and so do the variables of
        the environment that it needs. Raises ConfigError."""
        document = read_document(path)
        for node in _objects(document.get("nodes")):
            if serves is not None and node.get("id") not in serves:
                for model in _objects(node.get("models")):
                    for key in _HOW_IT_IS_CALLED:
                        model.pop(key, None)
        return cls.from_document(document, source=str(path))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, source: str) -> Config:
        """The configuration in ``document``, as `read_document` returns it; ``source`` names it in
        errors. Raises ConfigError."""
        return check(cls, expand(dict(document), "", source), source, _made)

    def node(self, node_id: int) -> NodeConfig:
        """The node of that id. Raises ConfigError where there is none."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        known = ", ".join(str(node.id) for node in self.nodes)
        raise ConfigError(
            f"there is no node {node_id} in the configuration; it has {known}: "
            "correct the id, or give --join HOST:PORT where it joins"
        )

    def joining(self, node_id: int, address: str) -> NodeConfig:
        """Node ``node_id``, which is not listed here: it joins and listens at ``address``. Raises
        ConfigError."""
        if any(node.id == node_id for node in self.nodes):
            raise ConfigError(f"node {node_id} is in the configuration: start it without --join")
        owners: dict[str, str] = {node.address: f"node {node.id}" for node in self.nodes}
        owners[self.orchestrator.address] = "the orchestrator"
        try:
            split_address(address)
        except ValueError as error:
            raise ConfigError(f"--join: {error}") from None
        if owner := owners.get(address):
            raise ConfigError(f"--join: {owner} has the address {address}: choose another")
        return NodeConfig(node_id, Address(address))

    def node_dir(self, node_id: int) -> Path:
        """Where node ``node_id`` keeps its data."""
        return self.data_dir / f"node-{node_id}"


def demo_document(
    nodes: int = 3,
    base_port: int = DEFAULT_BASE_PORT,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    direct: bool = False,
) -> dict[str, Any]:
    """The demo's configuration as JSON values: orchestrator on ``base_port``, node i on
    ``base_port + i``, all on loopback."""
    return {
        "network": "direct" if direct else "orchestrated",
        "data_dir": str(data_dir),
        "orchestrator": {"address": f"{LOOPBACK}:{base_port}"},
        "nodes": [
            {"id": number, "address": f"{LOOPBACK}:{base_port + number}"}
            for number in range(1, nodes + 1)
        ],
    }


def demo_config(
    nodes: int = 3,
    base_port: int = DEFAULT_BASE_PORT,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    direct: bool = False,
) -> Config:
    """`demo_document`, checked. Raises ConfigError where the ports do not fit below 65536."""
    document = demo_document(nodes, base_port, data_dir, direct)
    return Config.from_document(document, source=f"a demo of {nodes} nodes from port {base_port}")


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(dict.fromkeys(names))}"
    return f"no model is named {name}; {hint}"
