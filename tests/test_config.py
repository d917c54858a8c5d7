"""The configuration: what it accepts, and its words for everything that it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from consensusllm.config import Config, demo_config, split_address
from consensusllm.config_file import ConfigError, read_document
from consensusllm_cli.addresses import resolve_cluster
from consensusllm_cli.record import RECORD

EXAMPLE = Path(__file__).parents[1] / "config.example.json"


def two_nodes(**changes: Any) -> dict[str, Any]:
    nodes = [{"id": 1, "address": "127.0.0.1:5101"}, {"id": 2, "address": "127.0.0.1:5102"}]
    return {"nodes": nodes, **changes}


def fault_of(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.from_document(document, source="c.json")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("c.json: ")
    return text.removeprefix("c.json: ")


def test_everything_but_the_nodes_has_a_default() -> None:
    config = Config.from_document(two_nodes(), source="c.json")
    assert config.network == "orchestrated"
    assert config.nodes[0].models[0].provider == "auto"
    assert config.node(2).address == "127.0.0.1:5102"
    assert config.node_dir(2) == config.data_dir / "node-2"


def test_a_parsed_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        demo_config().paxos.heartbeat_ms = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({}, "nodes: is missing"),
        (two_nodes(nodes=[]), "nodes: a cluster has 1 to 9 nodes, not 0"),
        (two_nodes(nodes=5), "nodes: must be a list, not a whole number"),
        (two_nodes(cluster_ip="x"), 'cluster_ip: unknown key; did you mean "cluster_id"?'),
        (
            two_nodes(paxos={"election_timeout": 9}),
            'paxos.election_timeout: unknown key; did you mean "election_timeout_ms"?',
        ),
        (
            {"nodes": [{"id": 1, "adress": "a:1"}]},
            'nodes[0].adress: unknown key; did you mean "address"?',
        ),
        (
            {"nodes": [{"id": 1, "address": "a:1", "models": [{"key": "s3cret"}]}]},
            'nodes[0].models[0].key: unknown key; did you mean "api_key"?',
        ),
        (two_nodes(log={"zz": 1}), "log.zz: unknown key; known here: level, format"),
        (
            two_nodes(paxos={"heartbeat_ms": "50"}),
            "paxos.heartbeat_ms: must be a whole number, not text",
        ),
        (
            two_nodes(paxos={"heartbeat_ms": True}),
            "paxos.heartbeat_ms: must be a whole number, not true or false",
        ),
        (
            two_nodes(paxos={"heartbeat_ms": 0}),
            "paxos.heartbeat_ms: must be a whole number >= 1",
        ),
        (
            two_nodes(paxos={"heartbeat_ms": 10**30}),
            "paxos.heartbeat_ms: must be a whole number <= 86400000",
        ),
        (two_nodes(paxos=None), "paxos: must be an object, not null"),
        (
            two_nodes(paxos={"clock_drift_percent": float("inf")}),
            "paxos.clock_drift_percent: must be a number <= 50.0",
        ),
        (
            two_nodes(cluster_id="a\n"),
            "cluster_id: must be text of 1 to 64 letters, digits and . _ -",
        ),
        (two_nodes(cluster_id="\ud800"), "cluster_id: holds half a surrogate pair"),
        ({"\ud800": 1}, "'\\ud800': holds half a surrogate pair"),
        (two_nodes(data_dir="a\0"), "data_dir: is no path: it holds a zero byte"),
        (two_nodes(data_dir=3), "data_dir: must be text"),
        (two_nodes(data_dir=""), "data_dir: is empty: give a path"),
        (two_nodes(council={"templates": ""}), "council.templates: is empty: give a path"),
        (
            two_nodes(data_dir="é" * 128),
            "data_dir: is no path: a name has at most 255 bytes, and all of it 470",
        ),
        (
            two_nodes(data_dir="a/" * 2000),
            "data_dir: is no path: a name has at most 255 bytes, and all of it 470",
        ),
        (two_nodes(domains=[]), "domains: must be an object of names and texts"),
        (two_nodes(domains={"law": 5}), "domains: law must be text of 1 to 16384 characters"),
        (
            two_nodes(domains={"a b": "x"}),
            "domains: 'a b' is no name: use letters, digits, and any of ._:/+-",
        ),
        (
            two_nodes(log={"level": "loud"}),
            "log.level: must be 'debug' or 'info' or 'warning' or 'error'",
        ),
        ({"nodes": [3]}, "nodes[0]: must be an object, not a whole number"),
        ({"nodes": [{"id": 1}]}, "nodes[0].address: is missing"),
        (
            two_nodes(paxos={"heartbeat_ms": 400}),
            "paxos: election_timeout_ms must be at least three times heartbeat_ms",
        ),
        (two_nodes(network="carrier-pigeon"), "network: must be 'orchestrated' or 'direct'"),
        (
            {"nodes": [{"id": 0, "address": "a:1"}]},
            "nodes[0].id: must be a whole number >= 1",
        ),
        (
            {"nodes": [{"id": 1, "address": "a:1"}, {"id": 1, "address": "a:2"}]},
            "nodes[1].id: another node has the id 1",
        ),
        (
            {"nodes": [{"id": 1, "address": "a:1"}, {"id": 2, "address": "a:1"}]},
            "nodes[1].address: node 1 has the address a:1",
        ),
        (
            {"nodes": [{"id": 1, "address": "127.0.0.1:5100"}]},
            "nodes[0].address: the orchestrator has the address 127.0.0.1:5100",
        ),
    ],
)
def test_a_fault_is_told_with_its_key_path(document: dict[str, Any], fault: str) -> None:
    assert fault_of(document) == fault


def with_models(*models: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": [{"id": 1, "address": "a:1", "models": list(models)}]}


@pytest.mark.parametrize(
    ("models", "fault"),
    [
        (({"name": "a b"},), "nodes[0].models[0].name: "),
        (({"price": {"prompt": -1}},), "nodes[0].models[0].price.prompt: "),
        (({"price": {"output": 1}},), "nodes[0].models[0].price.output: unknown key"),
        (({"context_tokens": 0},), "nodes[0].models[0].context_tokens: "),
        (
            ({"context_tokens": 100, "max_tokens": 100},),
            "nodes[0].models[0]: max_tokens must be below context_tokens",
        ),
        (
            ({"early": True, "price": {"completion": 0.5}},),
            "nodes[0].models[0]: early needs a price of 0: a call whose question is not chosen",
        ),
        (
            ({"name": "a"}, {"name": "a"}),
            "nodes[0].models[1].name: another model of node 1 is named a: give this one a name of",
        ),
        (
            ({"name": "m"}, {"provider": "ollama", "model": "m"}),
            "nodes[0].models[1].name: another model of node 1 is named m: give this one a name of",
        ),
        (
            ({"provider": "openai", "model": "m"}, {"provider": "ollama", "model": "m"}),
            "nodes[0].models[1].name: another model of node 1 is named m",
        ),
        (
            ({"provider": "builtin"}, {"provider": "builtin"}),
            "nodes[0].models[1].name: another model of node 1 is named builtin",
        ),
        (({"name": "a", "fallbacks": ["a"]},), "nodes[0].models[0]: fallbacks: a cannot stand in"),
        (
            ({"name": "llama"}, {"model": "qwen", "fallbacks": ["lama"]}),
            "nodes[0].models[1].fallbacks: no model is named lama; did you mean llama?",
        ),
        (
            ({"provider": "builtin"}, {"provider": "scripted", "fallbacks": ["lama"]}),
            "nodes[0].models[1].fallbacks: no model is named lama; there are builtin, scripted",
        ),
        (
            ({"provider": "gemini", "fallbacks": ["gemini-flash-lates"]},),
            "nodes[0].models[0].fallbacks: no model is named gemini-flash-lates; did you mean",
        ),
        (
            ({"name": "llama"}, {"model": "qwen", "fallbacks": ["zzz"]}),
            "nodes[0].models[1].fallbacks: no model is named zzz; there are llama, qwen",
        ),
    ],
)
def test_a_fault_of_a_model_is_told_with_its_key_path(
    models: tuple[dict[str, Any], ...], fault: str
) -> None:
    assert fault_of(with_models(*models)).startswith(fault)


@pytest.mark.parametrize("provider", ["openai", "gemini", "litellm"])
@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "localhost:8000", "ftp://a/v1", "http://", "http://a:b", "http://a b"],
)
def test_a_base_url_is_a_url(provider: str, url: str) -> None:
    fault = fault_of(with_models({"provider": provider, "base_url": url}))
    assert fault == ("nodes[0].models[0]: base_url must be a URL, such as http://127.0.0.1:8000/v1")


@pytest.mark.parametrize("provider", ["ollama", "auto"])
def test_an_ollama_may_be_given_by_its_host(provider: str) -> None:
    for url in ("gpu", "gpu:11434", "[::1]:11434", "https://gpu/", ""):
        Config.from_document(with_models({"provider": provider, "base_url": url}), source="c.json")
    for url in ("ftp://gpu", "gpu:port", "g pu"):
        assert "base_url must be a URL" in fault_of(
            with_models({"provider": provider, "base_url": url})
        )


def test_a_fallback_may_be_a_model_whose_name_only_its_node_knows() -> None:
    document = with_models({"provider": "auto"}, {"name": "a", "fallbacks": ["llama3.2:latest"]})
    assert Config.from_document(document, source="c.json").nodes[0].models[1].fallbacks


def test_ten_nodes_are_too_many() -> None:
    nodes = [{"id": number, "address": f"a:{number}"} for number in range(1, 11)]
    assert fault_of({"nodes": nodes}) == "nodes: a cluster has 1 to 9 nodes, not 10"


@pytest.mark.parametrize("address", ["a", "a:", ":5", "a:0", "a:65536", "a:-1", "a b:5", "::1:5"])
def test_an_address_is_host_and_port(address: str) -> None:
    assert fault_of({"nodes": [{"id": 1, "address": address}]}).startswith("nodes[0].address: ")


def test_an_ip6_address_is_bracketed() -> None:
    assert split_address("[::1]:5101") == ("::1", 5101)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, f"b.{'ü' * 64}", "[]", "a\0b"])
def test_a_host_that_no_name_can_be_is_refused_with_the_configuration(host: str) -> None:
    fault = fault_of({"nodes": [{"id": 1, "address": f"{host}:5101"}]})
    assert fault.startswith("nodes[0].address: ")
    assert fault.endswith(" names no host that could be looked up")
    assert split_address("bücher.example.:5101") == ("bücher.example.", 5101)


@pytest.mark.parametrize("host", ["ipv4", "DNS", "unix"])
def test_a_host_that_grpc_takes_for_a_scheme_is_refused(host: str) -> None:
    fault = fault_of({"nodes": [{"id": 1, "address": f"{host}:5101"}]})
    assert fault.endswith(f"gRPC takes '{host}' for a scheme, so give the host's address")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{\n  "nodes": [,]\n}', "line 2 column 13: not JSON"),
        ('{"nodes": [{"id": 1, "id": 2}]}', "nodes[0].id: is there twice"),
        ('{"nodes": [], "nodes": [1]}', "nodes: is there twice"),
        ('{"nodes": NaN}', "NaN is not JSON"),
        ("[]", "must hold one JSON object"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"nodes": ' + "[" * 64 + "1" + "]" * 64 + "}", "is nested too deeply"),
    ],
)
def test_a_file_that_is_not_json_is_told_with_its_place(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert str(caught.value).startswith(f"{path}: {fault}")


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(ConfigError, match=r"c\.json: cannot be read: No such file"):
        Config.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"c\.json: is not a text file in UTF-8"):
        Config.load(path)


def with_key(key: str) -> dict[str, Any]:
    return {"nodes": [{"id": 1, "address": "a:1", "models": [{"api_key": key}]}]}


def test_environment_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    monkeypatch.delenv("NO_KEY", raising=False)
    document = with_key("${SOME_KEY}-${NO_KEY:-none}")
    key = Config.from_document(document, source="c.json").nodes[0].models[0].api_key
    assert key is not None
    assert key.reveal() == "s3cret-none"


def test_a_missing_variable_is_named_with_its_key_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    fault = fault_of(with_key("${NO_KEY}"))
    assert fault == "nodes[0].models[0].api_key: the environment variable NO_KEY is not set"
    assert fault_of(with_key("${NO KEY}")).startswith("nodes[0].models[0].api_key: write ${NAME}")


def test_a_models_key_is_needed_only_by_who_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    monkeypatch.delenv("NO_URL", raising=False)
    document = with_key("${NO_KEY}")
    document["nodes"][0]["models"][0] |= {"base_url": "${NO_URL}", "options": {"path": "${NO_URL}"}}
    document["nodes"].append({"id": 2, "address": "b:1", "models": [{"api_key": "k"}]})
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    assert resolve_cluster(path, None, None).nodes == ("a:1", "b:1")
    [own] = Config.load(path, serves=(2,)).node(2).models
    assert own.api_key is not None
    for serves in (None, (1,)):
        with pytest.raises(ConfigError, match=r"the environment variable NO_.* is not set"):
            Config.load(path, serves)


def test_a_secret_is_in_no_repr_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    document = with_key("${SOME_KEY}")
    document |= {"client_token": "s3cret", "orchestrator": {"token": "s3cret"}}
    assert "s3cret" not in repr(Config.from_document(document, source="c.json"))
    document["nodes"][0]["models"][0]["api_key"] = ["s3cret"]
    document["client_token"] = {"s3cret": "s3cret"}
    assert "s3cret" not in fault_of(document)


def test_a_token_that_is_empty_protects_nothing_and_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "")
    for token in ("${SOME_TOKEN}", "${NO_TOKEN:-}", ""):
        words = "is empty: give a token, or null for none"
        assert fault_of(two_nodes(client_token=token)) == f"client_token: {words}"
        assert fault_of(two_nodes(orchestrator={"token": token})) == f"orchestrator.token: {words}"


@pytest.mark.parametrize("token", ["s3crét", "s3cret\n", "\x00"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "must be printable ASCII, without a line's end"
    assert fault_of(two_nodes(client_token=token)) == f"client_token: {words}"
    fault = fault_of(two_nodes(orchestrator={"token": token}))
    assert fault == f"orchestrator.token: {words}"
    if "\0" not in token:
        monkeypatch.setenv("CONSENSUSLLM_ORCHESTRATOR_TOKEN", token)
        with pytest.raises(ConfigError, match=f"^CONSENSUSLLM_ORCHESTRATOR_TOKEN: {words}$"):
            resolve_cluster(None, None, "a:1")


def test_the_document_of_a_file_keeps_its_variables(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(with_key("${SOME_KEY}")))
    assert read_document(path)["nodes"][0]["models"][0]["api_key"] == "${SOME_KEY}"


def test_the_demo_counts_its_ports_from_the_base_port(tmp_path: Path) -> None:
    config = demo_config(nodes=2, base_port=6000, data_dir=tmp_path, direct=True)
    assert config.orchestrator.address == "127.0.0.1:6000"
    assert [node.address for node in config.nodes] == ["127.0.0.1:6001", "127.0.0.1:6002"]
    assert config.network == "direct"
    with pytest.raises(ConfigError, match="1 to 65535"):
        demo_config(nodes=3, base_port=65534)


def test_a_client_finds_the_cluster_in_one_of_three_ways(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(two_nodes(client_token="t", orchestrator={"token": "o"})))
    by_file = resolve_cluster(path, None, None)
    assert by_file.by_id == {1: "127.0.0.1:5101", 2: "127.0.0.1:5102"}
    assert by_file.client_token is not None
    assert by_file.client_token.reveal() == "t"
    assert resolve_cluster(None, None, None).orchestrator == "127.0.0.1:5100"
    assert resolve_cluster(None, 6000, None).nodes[0] == "127.0.0.1:6001"
    by_address = resolve_cluster(None, None, "a:1, b:2")
    assert (by_address.nodes, by_address.orchestrator) == (("a:1", "b:2"), None)


def test_a_client_knows_what_has_become_of_the_cluster_whose_data_is_here(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(two_nodes(data_dir=str(tmp_path), cluster_id="c")))
    record = {"cluster_id": "c", "nodes": [1, 2], "formed": True, "joined": {"3": "h:3"}}
    (tmp_path / RECORD).write_text(json.dumps(record | {"retired": [1]}))
    assert resolve_cluster(path, None, None).by_id == {2: "127.0.0.1:5102", 3: "h:3"}
    (tmp_path / RECORD).write_text(json.dumps(record | {"cluster_id": "another"}))
    assert resolve_cluster(path, None, None).by_id.keys() == {1, 2}
    (tmp_path / RECORD).write_text("{")
    assert resolve_cluster(path, None, None).by_id.keys() == {1, 2}


def test_a_configuration_is_named_and_not_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the name of the configuration is empty"):
        Config.load("")
    path = tmp_path / "c.json"
    path.write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(ConfigError, match="has more than 16777216 bytes: shorten it"):
        Config.load(path)


@pytest.mark.parametrize(
    ("ways", "fault"),
    [
        (("c.json", 5100, None), "--config and --base-port say the same thing twice"),
        ((None, 5100, "a:1"), "--base-port and --connect say the same thing twice"),
        ((None, None, "a"), "--connect: 'a' is not HOST:PORT"),
        ((None, None, ","), "--connect: needs at least one HOST:PORT"),
    ],
)
def test_a_client_is_told_what_is_wrong_with_its_options(ways: Any, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_cluster(*ways)
    assert str(caught.value).startswith(fault)


def test_tokens_come_from_the_environment_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSENSUSLLM_CLIENT_TOKEN", "t")
    monkeypatch.delenv("CONSENSUSLLM_ORCHESTRATOR_TOKEN", raising=False)
    found = resolve_cluster(None, None, "a:1")
    assert found.client_token is not None
    assert found.client_token.reveal() == "t"
    assert found.orchestrator_token is None


def keys_of(section: Struct, where: str = "") -> dict[str, Any]:
    """Every key path below ``section`` with its value; of a list, those of its first item."""
    keys: dict[str, Any] = {}
    for name in section.__struct_fields__:
        value = getattr(section, name)
        first = value[0] if isinstance(value, tuple) and value else value
        keys[where + name] = value
        if isinstance(first, Struct):
            keys |= keys_of(first, f"{where}{name}.")
    return keys


def test_the_example_has_every_key_and_says_the_defaults() -> None:
    example = Config.load(EXAMPLE)
    written = read_document(EXAMPLE)
    for path, value in keys_of(example).items():
        place: Any = written
        for part in path.split("."):
            place = place[0] if isinstance(place, list) else place
            assert part in place, f"{EXAMPLE.name} lacks {path}"
            place = place[part]
        if not path.startswith("nodes"):
            assert value == keys_of(demo_config())[path], f"{EXAMPLE.name}: {path}"


def test_a_node_that_joins_has_an_address_of_its_own() -> None:
    config = demo_config()
    assert config.joining(4, "127.0.0.1:5104").address == "127.0.0.1:5104"
    for node, address, fault in (
        (3, "127.0.0.1:5104", "node 3 is in the configuration: start it without --join"),
        (4, "127.0.0.1:5102", "--join: node 2 has the address"),
        (4, "127.0.0.1:5100", "--join: the orchestrator has the address"),
        (4, "here", "--join: 'here' is not HOST:PORT"),
    ):
        with pytest.raises(ConfigError, match=fault):
            config.joining(node, address)
