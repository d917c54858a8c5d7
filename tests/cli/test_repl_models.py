"""The models of the cluster, as a person or a script sees them."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from consensusllm.client import ModelStatus, cluster_models, money
from consensusllm.client.models import SILENT, UNSEEN
from consensusllm.conversations import RegisteredModel, ServedModel
from consensusllm_cli.options import NOBODY
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.session import Outcome, Session
from consensusllm_cli.repl.table import TABLE
from tests.cli.repl_fakes import NODES, FakeCluster, status

SMALL = ServedModel("small", "ollama", "llama3.2", 8192, 1024, 100_000, 250_000, ("quick",))
LARGE = ServedModel("large", "gemini", "gemini-2.5-pro", fallbacks=("small",))
REGISTRY = (
    (1, RegisteredModel(SMALL, 7, 1, 1000, 2000, 1_234_500, loaded=True, probed_ms=5)),
    (2, RegisteredModel(SMALL, loaded=False, probe_error="not there", probed_ms=5)),
    (3, RegisteredModel(LARGE, 2)),
)
FAILING, NOT_THERE = "failing: no connection", "failing: not there"
SAID = [
    ["2", "41.3", "900", "1800", "7", "1"],
    ["2", "41.3", "-", "1800", "0", "0"],
    ["-", "-", "-", "-", "2", "0"],
]
NOW = ModelStatus(1, "ollama", "llama3.2", "it runs", "small", 2, 41.26, 900, 1800)


def cluster() -> FakeCluster:
    fake = FakeCluster()
    failing = replace(NOW, node=2, last_error="no connection", latency_p50_ms=0)
    fake.by_node = {
        1: status(1, models=(NOW,), registry=REGISTRY),
        2: status(2, models=(failing,), registry=REGISTRY[:2], applied_slot=3),
        3: None,
    }
    return fake


async def said(fake: FakeCluster, line: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    session = Session(fake, Output(out, err, False), TABLE)
    assert await session.run(line) is Outcome.DONE, err.getvalue()
    return out.getvalue()


async def test_models_shows_the_registry_with_what_the_nodes_say() -> None:
    lines = (await said(cluster(), "models")).splitlines()
    assert lines[0] == (
        "node\tname\tprovider\tmodel\tloaded\thealth\tprobe\tin flight\ttokens/s\tp50 ms\tp99 ms"
        "\tanswers\terrors\tspend\tnote"
    )
    assert [line.split("\t") for line in lines[1:]] == [
        ["1", "small", "ollama", "llama3.2", "yes", "well", "well", *SAID[0], "1.2345", "it runs"],
        ["2", "small", "ollama", "llama3.2", "no", FAILING, NOT_THERE, *SAID[1], "0.00", "it runs"],
        ["3", "large", "gemini", "gemini-2.5-pro", "-", SILENT, "-", *SAID[2], "0.00", ""],
    ]


async def test_a_node_that_answers_is_not_called_silent_before_it_has_looked_at_its_models() -> (
    None
):
    own = cluster()
    own.by_node[3] = status(3)
    assert (await said(own, "models")).splitlines()[3].split("\t")[5] == UNSEEN


async def test_a_terminal_shows_what_fits_and_explains_below() -> None:
    out = io.StringIO()
    output = Output(out, io.StringIO(), True)
    output.console = Console(file=out, width=120, force_terminal=True, color_system=None)
    await Session(cluster(), output, TABLE).run("models")
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert [line.split()[:5] for line in lines[1:4]] == [
        ["1", "small", "ollama/llama3.2", "yes", "well"],
        ["2", "small", "ollama/llama3.2", "no", "failing"],
        ["3", "large", "gemini/gemini-2.5-pro", "-", "silent"],
    ]
    assert lines[4:] == [
        "small@1, small@2: it runs",
        "small@2: failing: no connection",
        "small@2: failing: not there",
        f"large@3: {SILENT}",
    ]


async def test_on_half_a_screen_no_short_word_is_broken() -> None:
    out = io.StringIO()
    output = Output(out, io.StringIO(), True)
    output.console = Console(file=out, width=90, force_terminal=True, color_system=None)
    own = cluster()
    served = ServedModel("builtin", "builtin", "builtin")
    busy = RegisteredModel(served, 1_234_567, 12, cost=1_234_567)
    now = replace(NOW, provider="builtin", model="builtin", name="builtin", note="")
    own.by_node = {1: status(1, models=(now,), registry=((1, busy),))}
    await Session(own, output, TABLE).run("models")
    assert "1     builtin  builtin  -       well    2     41.3   900/1800" in out.getvalue()


async def test_models_as_json_has_everything() -> None:
    rows = json.loads(await said(cluster(), "models --json"))
    assert [row["node"] for row in rows] == [1, 2, 3]
    assert rows[0]["price"] == {"prompt": "0.10", "completion": "0.25"}
    assert (rows[0]["context_tokens"], rows[0]["max_tokens"]) == (8192, 1024)
    assert (rows[0]["spend"], rows[0]["in_flight"], rows[0]["tags"]) == ("1.2345", 2, ["quick"])
    assert rows[1]["last_error"] == "no connection"
    assert rows[2]["fallbacks"] == ["small"]
    assert "in_flight" not in rows[2]
    assert [row["loaded"] for row in rows] == [True, False, None]
    assert [row["probe"] for row in rows] == ["well", "failing: not there", None]


async def test_a_model_that_cannot_be_served_is_shown_with_the_reason() -> None:
    fake = FakeCluster()
    unserved = ModelStatus(1, "gemini", "g", "set GEMINI_API_KEY", "g", served=False)
    fake.by_node = {1: status(1, models=(unserved,))}
    assert "1\tg\tgemini\tg\t-\tnot served: set GEMINI_API_KEY\t" in await said(fake, "models")


async def test_without_a_node_there_are_no_models() -> None:
    fake = FakeCluster()
    fake.by_node = dict.fromkeys(NODES)
    err = io.StringIO()
    session = Session(fake, Output(io.StringIO(), err, False), TABLE)
    assert await session.run("models") is Outcome.FAILED
    assert err.getvalue() == f"models: {NOBODY}\n"
    assert cluster_models([None]) == []


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (10_000, "0.01"),
        (1_500_000, "1.50"),
        (12_345_678, "12.345678"),
    ],
)
def test_money_has_two_to_six_digits(cost: int, shown: str) -> None:
    assert money(cost) == shown
