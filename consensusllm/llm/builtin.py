"""The built-in responder: no model, no network. It quotes what the conversation already says.

It stands in where there is neither a key nor a server, so that a cluster can be tried at once. Its
answer is a function of the prompt and the node's id, and says what wrote it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence

from consensusllm.provider_names import DEFAULT_MODELS

from .port import Chunk, GenerateRequest
from .rankings import labels_of, ranking
from .settings import ProviderSettings

QUOTES_MAX = 3
QUOTE_CHARACTERS_MAX = 280
SEARCHED_CHARACTERS_MAX = 200_000
"""As much as is read of the question, and of what stands before it the newest part."""

_BANNER = "[built-in responder, not a language model; node "
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_WORD = re.compile(r"\w+")
_OPENING = re.compile(r"^<<<([a-z]{1,40}(?: [A-Z])? [0-9a-f]{1,64})>>>$", re.M)
_PIECE = re.compile(r"\s*\S+|\s+")
_COMMON = frozenset(
    _WORD.findall(
        "a about an and are as at be by can do does for from how i in is it its me my of on or "
        "our that the this to was we what when where which who why will with you your"
    )
)


class Builtin:
    """Answers at once, a word a chunk; ``max_tokens`` counts words."""

    name = "builtin"
    continues = False

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model or DEFAULT_MODELS[self.name]
        self._node = settings.node

    def __repr__(self) -> str:
        return f"<Builtin node {self._node}>"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        # A long conversation takes a while to search, and the event loop has other work.
        text = await asyncio.to_thread(answer, request, self._node)
        pieces = _PIECE.findall(text)
        kept = pieces[: request.max_tokens]
        for piece in kept:
            yield Chunk(text=piece, model=self.model)
        yield Chunk(
            finish_reason="stop" if kept == pieces else "length",
            model=self.model,
            prompt_tokens=sum(len(turn.text.split()) for turn in request.turns),
            completion_tokens=len(kept),
        )

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """There is nothing to close."""


def answer(request: GenerateRequest, node: int) -> str:
    """The whole answer of ``node``: a banner, and the sentences nearest to the question."""
    question = request.turns[-1].text[:SEARCHED_CHARACTERS_MAX] if request.turns else ""
    labels = labels_of(request)
    if labels:
        return _ranking(question, labels, node)
    name, text = next(_marked(question), ("", ""))
    if name == "question":  # of a council
        question = text.strip()
    banner = f"{_BANNER}{node}]"
    quotes = _quotes(request, question)
    if quotes:
        said = "\n".join(f"- {quote}" for quote in quotes)
        return f"{banner} Closest to your question, this conversation says:\n{said}"
    asked = _cut(" ".join(question.split()))
    return (
        f"{banner} Nothing earlier in this conversation speaks of your question: “{asked}”\n"
        "For real answers set GEMINI_API_KEY, start Ollama, or name a provider in the config."
    )


def _ranking(asked: str, labels: Sequence[str], node: int) -> str:
    """The answers by how many words of the question they have: no judgement, as it says."""
    marked = dict(_marked(asked))
    wanted = _words(marked.get("question", ""))
    scores = {label: len(wanted & _words(marked.get(f"answer {label}", ""))) for label in labels}
    said = f"{_BANNER}{node}] Ranked by how many words of the question the answers have."
    return ranking(said, sorted(labels, key=lambda label: (-scores[label], label)))


def _marked(text: str) -> Iterator[tuple[str, str]]:
    """What stands between the marks of a council's prompt, each with its name. Ends where an
    opening has no end, so that it takes time in proportion to ``text``."""
    place = 0
    while opening := _OPENING.search(text, place):
        place = text.find(f"\n<<<end of {opening[1]}>>>", opening.end())
        if place < 0:
            return
        yield opening[1].rpartition(" ")[0], text[opening.end() : place]


def _quotes(request: GenerateRequest, question: str) -> list[str]:
    wanted = _words(question)
    room = SEARCHED_CHARACTERS_MAX
    scored: list[tuple[int, int, str]] = []
    for turn in reversed(request.turns[:-1]):
        if room <= 0:
            break
        # Its own earlier answers only repeat what was said before them.
        if turn.role == "assistant" and turn.text.startswith(_BANNER):
            continue
        text = turn.text[:room]
        room -= len(text)
        for sentence in reversed(_SENTENCE.findall(text)):
            score = len(wanted & _words(sentence))
            if score:
                # Among equals the newest is the first: its place counts from the end.
                scored.append((-score, len(scored), _cut(sentence.strip())))
    best = sorted(scored)[:QUOTES_MAX]
    oldest_first = sorted(best, key=lambda entry: -entry[1])
    return list(dict.fromkeys(sentence for _, _, sentence in oldest_first))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold())) - _COMMON


def _cut(text: str) -> str:
    return text if len(text) <= QUOTE_CHARACTERS_MAX else text[: QUOTE_CHARACTERS_MAX - 1] + "…"
