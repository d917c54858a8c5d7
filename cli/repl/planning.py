"""The flags of query and retry: who is to answer, how, and with what beside the question."""

from __future__ import annotations

from pathlib import Path

from consensusllm.client import File

from .files import read_bytes
from .language import (
    FILE,
    INTEGER,
    JSON,
    NAMES,
    NUMBER,
    SECONDS,
    TEMPERATURE,
    TEMPLATE,
    WORD,
    WORDS,
    Flag,
)
from .session import CommandFailed

FILE_BYTES = 1 << 20
"""The most that is read of a file: no question may be longer, whatever the cluster allows."""

MODEL_FLAGS = (
    Flag("models", NAMES, "ask these models, each on the node that has least to do: a,b@2,c"),
    Flag("n", NUMBER, "ask for so many answers of each model"),
    Flag("one", None, "ask the best model only"),
    Flag("strategy", WORD, "which is the best: smart, priority, round-robin or cheapest"),
)
QUERY_FLAGS = (
    *MODEL_FLAGS,
    Flag("council", TEMPLATE, "these answer, review each other, and agree", otherwise=""),
    Flag("close_after", NUMBER, "close the turn after so many answers"),
    Flag(
        "deadline",
        SECONDS,
        "close it, or each stage of a council, after so long, whatever is missing",
    ),
    Flag("hedge", SECONDS, "ask a model's next fallback too where no text has come after so long"),
    Flag("temperature", TEMPERATURE, "0 to 2"),
    Flag("max_tokens", NUMBER, "the most that each answer may have"),
    Flag("seed", INTEGER, "for models that can repeat an answer"),
    Flag("system", WORDS, "a system prompt in place of the conversation's"),
    Flag("persona", WORDS, 'who the models are to be: --persona "a sceptical reviewer"'),
    Flag("domain", WORD, "the field: education, healthcare, policy, law, engineering or your own"),
    Flag("file", FILE, "a text file that goes with the question; may be repeated", repeated=True),
    Flag("user", WORD, "who asks, as far as budgets go"),
    JSON,
)


async def read_file(path: str) -> File:
    """Raises CommandFailed where it cannot be read, is too long, or no text."""
    try:
        data = await read_bytes(path, FILE_BYTES)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}: name a text file that is there") from None
    if len(data) > FILE_BYTES:
        raise CommandFailed(f"{path} has over {FILE_BYTES} bytes: give a shorter part of it")
    try:
        return File(Path(path).name, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} is no text in UTF-8: only text goes with a question") from None
