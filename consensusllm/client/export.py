"""A conversation as a JSON document, and back.

    {
      "format": "consensusllm-conversation",
      "version": 1,
      "conversation": "c1",
      "turns": [
        {
          "question": "What is Paxos?",
          "choice": 2,                     the chosen candidate's number; 0: none
          "candidates": [
            {"number": 1, "node": 1, "model": "m", "text": "", "error": "timed out"},
            {"number": 2, "node": 2, "model": "n", "text": "A protocol.", "error": ""}
          ]
        }
      ]
    }

Turns are in order. A candidate that was still open has the text that it had reached and says so in
``error``, because an import makes turns that are closed. Times, attempts and token counts belong to
the cluster that made them and are left out. A reader refuses a version that it does not know and
keys that it does not know, so nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consensusllm.client.errors import InvalidRequest
from consensusllm.conversations.commands import ImportedCandidate, ImportTurn
from consensusllm.conversations.records import Conversation, Turn

FORMAT = "consensusllm-conversation"
VERSION = 1
STILL_OPEN = "still open when it was exported"

_DOCUMENT: dict[str, type] = {"format": str, "version": int, "conversation": str, "turns": list}
_TURN: dict[str, type] = {"question": str, "choice": int, "candidates": list}
_CANDIDATE: dict[str, type] = {"number": int, "node": int, "model": str, "text": str, "error": str}
_JSON_NAMES = {str: "a string", int: "a whole number", list: "a list"}


def to_document(conversation: Conversation) -> dict[str, Any]:
    """The JSON document of ``conversation``."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "conversation": conversation.conversation,
        "turns": [_turn_to_document(turn) for turn in conversation.turns],
    }


def from_document(document: Mapping[str, Any], target: str) -> list[ImportTurn]:
    """The commands that make ``document``'s turns in ``target``, in order.

    Raises InvalidRequest, naming the place, for anything that `to_document` does not write.
    """
    _check(document, _DOCUMENT, "the document")
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise InvalidRequest(
            f"the document is {document['format']!r} version {document['version']}:"
            f" only {FORMAT!r} version {VERSION} can be imported"
        )
    return [
        _turn_from_document(turn, target, f"turns[{index}]")
        for index, turn in enumerate(document["turns"])
    ]


def _turn_to_document(turn: Turn) -> dict[str, Any]:
    return {
        "question": turn.question,
        "choice": turn.choice,
        "candidates": [
            {
                "number": candidate.number,
                "node": candidate.node,
                "model": candidate.model,
                "text": candidate.text,
                "error": candidate.error if candidate.ended else STILL_OPEN,
            }
            for candidate in turn.candidates
        ],
    }


def _turn_from_document(turn: Any, target: str, place: str) -> ImportTurn:
    _check(turn, _TURN, place)
    candidates = []
    for index, candidate in enumerate(turn["candidates"]):
        _check(candidate, _CANDIDATE, f"{place}.candidates[{index}]")
        candidates.append(ImportedCandidate(**candidate))
    numbers = [candidate.number for candidate in candidates]
    if len(set(numbers)) != len(numbers) or not all(0 < number < 1 << 32 for number in numbers):
        raise InvalidRequest(f"{place}.candidates: each needs a number of its own, from 1 on")
    if not all(0 <= candidate.node < 1 << 32 for candidate in candidates):
        raise InvalidRequest(f"{place}.candidates: a node's number is not negative")
    answered = [candidate.number for candidate in candidates if not candidate.error]
    if turn["choice"] != 0 and turn["choice"] not in answered:
        raise InvalidRequest(
            f"{place}.choice is {turn['choice']}, which is not the number of an answered candidate"
        )
    return ImportTurn(target, turn["question"], tuple(candidates), turn["choice"])


def _check(value: Any, keys: dict[str, type], place: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place} must be a JSON object")
    for key in sorted(keys.keys() - value.keys(), key=str):
        raise InvalidRequest(f"{place} lacks {key!r}")
    for key in sorted(value.keys() - keys.keys(), key=str):
        raise InvalidRequest(f"{place} has {key!r}, which is not known")
    for key, kind in keys.items():
        if type(value[key]) is not kind:
            raise InvalidRequest(f"{place}.{key} must be {_JSON_NAMES[kind]}")
        if kind is str and any("\ud800" <= character <= "\udfff" for character in value[key]):
            raise InvalidRequest(f"{place}.{key} holds half of a surrogate pair: it is no text")
