"""Ten providers that fail in every way, one query in ten, over real processes and real protocols:
every turn closes, every fault is recorded as itself, and what was spent is the sum of the calls.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from real_cluster import RealCluster, eventually

from consensusllm.bench.processes import free_ports
from consensusllm.client import Client, Plan, Turn, cluster_models
from tests.llm.dialects import DIALECTS, Dialect, Reply, Seen, Server

PROVIDERS = 10
WORKERS = 10
ANSWER_BYTES = 1 << 16
GIBIBYTE = 1 << 30
READ_MAX = 64 << 20
"""Bytes of a fault that a server gets rid of at most: what is read, and what systems buffer."""
WAIT_MS = 3000
SPENT_ON = {"prompt": 1.0, "completion": 2.0}
LIMIT = 10**9


@dataclass(frozen=True)
class Fault:
    """What the server says, and what is recorded then."""

    reply: Callable[[Dialect], Reply]
    recorded: str


def line(dialect: Dialect, body: bytes) -> list[bytes]:
    """One event of the stream."""
    return [body + b"\n" if dialect.provider == "ollama" else b"data: " + body + b"\n\n"]


def half_a_character(dialect: Dialect) -> Reply:
    whole = dialect.chunks(["é"], "")[-1]
    return dialect.reply([*dialect.chunks(["half "], ""), whole[: whole.index(b"\xc3") + 1]])


FAULTS = {
    "hang": Fault(lambda d: d.reply([], end="hang"), r": did not send text in time$"),
    "silence in mid-stream": Fault(
        lambda d: d.stream(["half "], "", end="hang"), r": did not send text in time$"
    ),
    "half a character": Fault(half_a_character, r": the answer (was cut off|cannot be read)"),
    "gigabyte": Fault(
        lambda d: d.reply([b"data: ", *[b"x" * (1 << 16)] * (GIBIBYTE >> 16)]),
        rf": sent over {2 * ANSWER_BYTES} bytes where text was due$",
    ),
    "wrong JSON": Fault(lambda d: d.reply(line(d, b"{no")), r": the answer cannot be read"),
    "wrong types": Fault(
        lambda d: d.reply(line(d, b'{"candidates": 5, "choices": 5, "message": 5}')),
        r": the answer cannot be read",
    ),
    "error under 200": Fault(
        lambda d: d.reply(line(d, d.error(500, "the runner has stopped"))),
        r"the runner has stopped$",
    ),
    "429": Fault(
        lambda d: d.failure(429, "come back tomorrow", retry_after="86400"),
        r": 429 rate limited: come back tomorrow$",
    ),
    "503": Fault(lambda d: d.failure(503, "no room"), r": 503 the server failed: no room$"),
    "401": Fault(lambda d: d.failure(401, "who?"), r": 401 refused \(check the API key\): who\?$"),
    "cut in mid-stream": Fault(
        lambda d: d.stream(["half "], "", end="cut"), r": the connection to \S+ was cut$"
    ),
    "end without a reason": Fault(lambda d: d.stream(["half "], ""), r": the answer was cut off$"),
    "cut before an answer": Fault(
        lambda d: replace(d.reply([]), end="raw"), r": the connection to \S+ was cut$"
    ),
    "no HTTP": Fault(
        lambda d: replace(d.reply([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]), end="raw"),
        r"does not speak HTTP$",
    ),
    "empty answer": Fault(lambda d: d.stream([""], "stop"), r": gave an empty answer"),
    "endless answer": Fault(
        lambda d: d.stream(["x" * 4096] * 64, "stop"),
        rf": the answer is over {ANSWER_BYTES} bytes$",
    ),
}
REFUSED = "refused connection"
"""Of a model whose server is not there, as a server cannot refuse a single request's connection."""
KINDS = (*FAULTS, REFUSED)


def injected(count: int, rng: Random) -> dict[int, str]:
    """One of ten queries, by number: of each provider one in ten where there are that many."""
    numbers = [
        provider + PROVIDERS * (block + rng.randrange(10))
        for block in range(0, count // PROVIDERS - 9, 10)
        for provider in range(PROVIDERS)
    ]
    numbers += rng.sample(range(count // 100 * 100, count), count % 100 // 10)
    kinds = rng.sample(KINDS, len(KINDS))
    return {number: kinds[place % len(kinds)] for place, number in enumerate(numbers)}


class Faulty(Server):
    """One provider's server: it answers well, but for the queries with an injected fault."""

    def __init__(self, dialect: Dialect, faults: dict[int, str]) -> None:
        super().__init__()
        self.dialect = dialect
        self.told: Counter[int] = Counter()  # tokens of its whole answers, by query
        self._faults = faults

    def reply_to(self, seen: Seen) -> Reply:
        if seen.method == "GET":
            return self.dialect.listing()
        number = int(re.findall(r"query (\d+)\b", json.dumps(seen.body))[-1])
        kind = self._faults.get(number)
        if kind is not None:
            return FAULTS[kind].reply(self.dialect)
        texts = [f"answer {number}", *[" more"] * (number % 5)]
        self.told[number] = 7 * 1 + len(texts) * 2
        return self.dialect.stream(texts)


def served(name: str, dialect: Dialect, url: str) -> dict[str, Any]:
    return {
        "provider": dialect.provider,
        "model": "m1",
        "name": name,
        "base_url": url + ("/v1" if dialect.provider == "openai" else ""),
        "api_key": "sk-none",
        "price": SPENT_ON,
        "max_tokens": 1000,
    }


class Ten(RealCluster):
    """Three nodes with the ten providers between them, each with a twin whose server is gone."""

    def serve(self, servers: list[Faulty]) -> None:
        config = json.loads(self.config_path.read_text())
        closed = f"http://127.0.0.1:{free_ports(1)[0]}"
        for node in config["nodes"]:
            node["models"] = [
                served(name, server.dialect, url)
                for place, server in enumerate(servers)
                if place % len(config["nodes"]) == node["id"] - 1
                for name, url in ((f"p{place}", server.url), (f"p{place}-gone", closed))
            ]
        self.config_path.write_text(json.dumps(config))


async def warm_up(client: Client) -> None:
    """Ask each provider until it answers: on a busy machine its package takes long to load."""
    await client.create("warm")

    async def answers(place: int) -> bool:
        plan = Plan((f"p{place}",))
        turn = await client.query("warm", f"query {10_000 + place}", plan=plan)
        return turn.candidates[0].answered

    for place in range(PROVIDERS):
        await eventually(lambda place=place: answers(place), f"provider {place} answers")  # type: ignore[misc]


async def ask_all(cluster: Ten, faults: dict[int, str], count: int) -> dict[int, Turn]:
    numbers = iter(range(count))
    turns: dict[int, Turn] = {}

    async def work(worker: int, client: Client) -> None:
        conversation = f"c{worker}"
        await client.create(conversation)
        for number in numbers:
            gone = "-gone" if faults.get(number) == REFUSED else ""
            plan = Plan((f"p{number % PROVIDERS}{gone}",))
            turns[number] = await client.query(conversation, f"query {number}", plan=plan)

    clients = [cluster.client(1 + worker % 3, timeout_s=120) for worker in range(WORKERS)]
    await asyncio.gather(*(work(worker, client) for worker, client in enumerate(clients)))
    return turns


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.full)])
@pytest.mark.timeout(900)
async def test_every_fault_of_ten_providers_is_recorded_as_itself(
    tmp_path: Path, seed: int, count: int
) -> None:
    faults = injected(count, Random(seed))
    assert len(faults) == count // 10
    dialects = [DIALECTS[name] for name in ("ollama", "openai", "gemini")]
    async with AsyncExitStack() as stack:
        servers = [Faulty(dialects[place % 3], faults) for place in range(PROVIDERS)]
        for server in servers:
            await server.start()
            stack.push_async_callback(server.close)
        cluster = Ten(
            tmp_path,
            answering={
                "first_token_timeout_ms": WAIT_MS,
                "idle_timeout_ms": WAIT_MS,
                "retries": 1,
                "concurrency": WORKERS,
            },
            limits={"answer_bytes": ANSWER_BYTES},
        )
        cluster.serve(servers)
        await stack.enter_async_context(cluster)
        await cluster.everybody_is_live()

        async def registered() -> bool:
            status = await cluster.status(1)
            return status is not None and len(status.registry) == 2 * PROVIDERS

        await eventually(registered, "every node has told of its models")
        watcher = cluster.client()
        await warm_up(watcher)
        before = cluster_models((await watcher.statuses()).values())
        for server in servers:
            server.told.clear()
        await watcher.set_budget("cluster", LIMIT)
        turns = await ask_all(cluster, faults, count)

        assert sorted(turns) == list(range(count))
        assert all(turn.closed and len(turn.candidates) == 1 for turn in turns.values())
        wrong = {}
        for number, turn in turns.items():
            (candidate,) = turn.candidates
            kind = faults.get(number)
            if kind is None:
                if not (candidate.answered and candidate.text.startswith(f"answer {number}")):
                    wrong[number] = candidate.error
                continue
            recorded = ": no connection to" if kind == REFUSED else FAULTS[kind].recorded
            if candidate.text or not re.search(recorded, candidate.error):
                wrong[number] = f"{kind}: {candidate.provider}: {candidate.error}"
        assert wrong == {}, f"seed {seed}"

        # Spend: what the servers told of their answers, and what is estimated of the broken ones.
        costs = {number: turn.candidates[0].cost for number, turn in turns.items()}
        told = sum((server.told for server in servers), Counter())
        assert {number: costs[number] for number in told} == told
        models = cluster_models((await watcher.statuses()).values())
        budget = (await watcher.budgets())["cluster"]
        counted = [each.total for each in models]
        earlier = [each.total for each in before]
        assert sum(each.cost for each in counted) - sum(each.cost for each in earlier) == sum(
            costs.values()
        )
        assert (budget.spent, budget.reserved) == (sum(costs.values()), 0)
        answered = sum(each.answers for each in counted) - sum(each.answers for each in earlier)
        failed = sum(each.errors for each in counted) - sum(each.errors for each in earlier)
        assert (answered, failed) == (count - len(faults), len(faults))
        gigabytes = Counter(
            number % PROVIDERS for number, kind in faults.items() if kind == "gigabyte"
        )
        for place, server in enumerate(servers):
            assert server.sent_bytes < READ_MAX * (1 + 2 * gigabytes[place])
        kinds = Counter(faults.values())
        print(f"seed {seed}: {count} queries, {len(faults)} faults of {len(kinds)} kinds, as told")
