"""What consensus adds to the first token: a query to the cluster, and the same model called here.

The model is the scripted one with a pause before its first word, as models have. Both are measured
in turn, so that whatever slows the machine slows both; what is added is the difference of the
medians. The scripted model costs nothing, so the node that takes the question in asks its own while
the question is being chosen, and shows the text once it is; one that may cost is called then.
"""

from __future__ import annotations

import time
from contextlib import aclosing

from consensusllm.client import Client, Delta, TurnClosed
from consensusllm.llm.port import GenerateRequest, Turn
from consensusllm.llm.registry import make_provider
from consensusllm.llm.settings import ProviderSettings

from .figures import percentile
from .ours import Ours
from .processes import BenchError

FIRST_TOKEN_S = 0.02
WARM = 10
SCRIPT: dict[str, object] = {"first_token_s": FIRST_TOKEN_S, "texts": ["word word word"]}


def prepare(system: Ours) -> None:
    """Configure a system that is not started yet."""
    system.script = SCRIPT


async def measure(system: Ours, count: int) -> dict[str, float]:
    """Medians in microseconds over ``count`` of each: the cluster's, the model's, and what is
    added."""
    provider = make_provider(ProviderSettings("scripted", options=SCRIPT))
    request = GenerateRequest((Turn("user", "Say much."),))
    ours_s: list[float] = []
    theirs_s: list[float] = []
    [client] = await system.connect(1)
    try:
        for number in range(WARM + count):
            conversation = f"first-token-{number}"
            await client.create(conversation)
            ours_s.append(await _of_the_cluster(client, conversation))
            begin = time.perf_counter()
            async with aclosing(provider.generate(request)) as chunks:
                await anext(chunks)
                theirs_s.append(time.perf_counter() - begin)
    finally:
        await client.close()
        await provider.aclose()
    ours_us, theirs_us = (percentile(times[WARM:], 50) * 1e6 for times in (ours_s, theirs_s))
    return {
        "first_p50_us": ours_us,
        "model_first_p50_us": theirs_us,
        "added_p50_us": ours_us - theirs_us,
    }


async def _of_the_cluster(client: Client, conversation: str) -> float:
    """Seconds until the first word of any answer; returns when the turn has closed."""
    begin = time.perf_counter()
    first_s = 0.0
    async with aclosing(client.stream(conversation, "Say much.")) as events:
        async for event in events:
            if isinstance(event, Delta) and not first_s:
                first_s = time.perf_counter() - begin
            elif isinstance(event, TurnClosed):
                break
    if not first_s:
        raise BenchError(f"no word of an answer in {conversation} came as it was written")
    return first_s
