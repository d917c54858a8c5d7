"""Councils as a node resolves them: the template, who takes the seats, and what is refused."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consensusllm.conversations import ConveneCouncil, GenerationOptions, Limits, ServedModel
from consensusllm.council.planning import Unplannable
from consensusllm.council.templates import Library
from consensusllm.service import councils
from consensusllm.service.asking import Planner, wishes_of
from consensusllm.service.councils import Templates
from consensusllm.serving import OwnModel
from consensusllm.wire.generated import client_pb2 as pb


class Node:
    """A node that hears nodes 1 and 3, and is node 3."""

    def __init__(self) -> None:
        paxos = SimpleNamespace(live=(1, 3), membership=SimpleNamespace(voters=(1, 2, 3)))
        machine = SimpleNamespace(registry={}, open_turns=list, applied_slot=1)
        config = SimpleNamespace(limits=Limits())
        self.replica = SimpleNamespace(
            paxos=paxos, machine=machine, node=3, config=config, time_ms=int
        )

    def clock(self) -> float:
        return 0.0


def test_a_model_that_this_node_cannot_serve_is_refused_with_the_reason() -> None:
    own = [
        OwnModel(ServedModel("flash", "gemini", "gemini-flash"), "GEMINI_API_KEY is not set", None)
    ]
    with pytest.raises(Unplannable, match="nobody serves flash: node 3 is configured with it, and"):
        completed(own, models=["flash@3"])
    with pytest.raises(Unplannable, match="there is no model 'flush'"):
        completed(own, models=["flush"])


@pytest.mark.parametrize("asked", ["flash", "flash@2"])
def test_a_model_that_another_node_does_not_serve_is_refused_with_that_nodes_number(
    asked: str,
) -> None:
    words = "nobody serves flash: node 2 is configured with it, and has not begun or cannot: models"
    with pytest.raises(Unplannable, match=words):
        completed(models=[asked])


def completed(own: Sequence[OwnModel] = (), templates: Templates | None = None, **ask: Any) -> Any:
    asked = pb.Ask(conversation="c1", question="Why?", **ask)
    planner = Planner(
        Node(),  # type: ignore[arg-type]
        default_deadline_ms=7000,
        domains={"law": "You know law."},
        templates=templates or Templates(None),
        models=own,
        configured={1: ["pro"], 2: ["flash"]},
    )
    return planner.complete(asked, wishes_of(asked))


def test_a_template_is_resolved_for_the_live_nodes_with_the_querys_options() -> None:
    options = pb.GenerationOptions(temperature=0.5)
    command = completed(council="three-stage", domain="law", options=options)
    assert isinstance(command, ConveneCouncil)
    assert (command.conversation, command.question) == ("c1", "Why?")
    assert command.options == GenerationOptions(temperature=0.5, role="You know law.")
    council = command.council
    chairs = [3, 1] if council.seed % 2 else [1, 3]
    assert [(each.node, each.role) for each in council.members] == [
        (1, ""),
        (3, ""),
        *((node, "chairman") for node in chairs),
    ]
    assert {stage.deadline_ms for stage in council.stages} == {7000}
    assert completed(council="three-stage").council.seed != council.seed
    assert completed(council="debate", deadline_ms=900).council.stages[0].deadline_ms == 900


async def test_templates_of_ones_own_are_never_read_on_the_loop(tmp_path: Path) -> None:
    """Where they are may hang, or be slow."""
    os.mkfifo(tmp_path / "hangs.yaml")
    (tmp_path / "mine.yaml").write_text("description: mine\nstages: [{kind: opinions}]\n")
    templates = Templates(tmp_path)
    with pytest.raises(Unplannable, match="still reads its council templates: ask again"):
        completed(templates=templates, council="mine")
    read = await asyncio.wait_for(templates.read(), 60)
    assert list(read.problems) == [f"{tmp_path}/hangs.yaml: cannot be read: it is no file"]
    assert isinstance(completed(templates=templates, council="mine"), ConveneCouncil)


async def test_a_hanging_read_of_templates_keeps_no_process_from_ending(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, hangs = threading.Event(), threading.Event()

    def load(directory: Path | None) -> Library:
        begun.set()
        hangs.wait()
        return Library({}, ())

    monkeypatch.setattr(councils, "_load", load)
    templates = Templates(tmp_path)
    readings = [asyncio.create_task(templates.read()) for _ in range(3)]
    await asyncio.to_thread(begun.wait)
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 60)
    [thread] = [each for each in threading.enumerate() if each.name == "templates"]
    assert thread.daemon
    hangs.set()
    thread.join()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            {"council": "three-stag"},
            r"template 'three-stag': did you mean three-stage\?",
        ),
        ({"council": "debate", "retry": True}, "for a new question, not for a retry"),
        ({"council": "debate", "close_after": 1}, "leave out close_after"),
        ({"council": "debate", "models": ["none"]}, "none"),
        ({"council": "debate", "user": "user:ann"}, "'user:ann' is no name of a user"),
    ],
)
def test_what_cannot_be_convened_is_refused_in_a_line(ask: dict[str, Any], words: str) -> None:
    with pytest.raises(Unplannable, match=words) as caught:
        completed(**ask)
    assert "\n" not in str(caught.value)
