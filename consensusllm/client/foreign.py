"""Exports of other programs: ChatGPT's ``conversations.json`` and Open WebUI's chats.

Both keep a tree of messages in which every edit and every other answer is a branch, and name the
message at whose end the person was. The branch to it becomes the conversation: each message of the
user a turn; what the assistant said up to the next one, the turn's chosen candidate. Other answers
to the same message are candidates too, each as far as its latest branch goes. Branches of edited
questions, and messages of the system and of tools, are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from consensusllm.client.errors import InvalidRequest
from consensusllm.conversations.records import TIME_MAX_MS, Candidate, Conversation, Turn

NO_ANSWER = "no answer in the file that was imported"
NO_TEXT = "[no text]"

_NOT_IN_AN_ID = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of the tree; ``role`` "" is one that is not shown."""

    parent: str | None
    children: tuple[str, ...]
    role: str = ""
    text: str = ""
    model: str = ""
    error: str = ""
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Chat:
    title: str
    messages: Mapping[str, _Message]
    current: str | None
    place: str


def read(document: Any) -> list[Conversation] | None:
    """The conversations of ``document`` in order, with ids made of their titles; None where it is
    neither program's. Raises InvalidRequest, naming the place, where it is but is malformed."""
    chats = document if isinstance(document, list) else [document]
    first = chats[0] if chats else None
    reader: Callable[[Any, str], _Chat]
    if not isinstance(first, Mapping):
        return None
    if "mapping" in first:
        reader = _chatgpt
    elif isinstance(first.get("chat"), Mapping):
        reader = _open_webui
    else:
        return None
    taken: dict[str, int] = {}
    conversations = []
    for index, entry in enumerate(chats):
        chat = reader(entry, f"[{index}]" if isinstance(document, list) else "")
        turns = tuple(_turns(chat))
        name = _free_id(chat.title, index + 1, taken)
        conversations.append(Conversation(name, len(turns) + 1, turns))
    return conversations


# ChatGPT --------------------------------------------------------------------------------------


def _chatgpt(entry: Any, place: str) -> _Chat:
    chat = _object(entry, place or "the document")
    mapping = _object(_item(chat, "mapping", place), f"{place}.mapping")
    messages = {
        key: _chatgpt_message(node, f"{place}.mapping[{key!r:.80}]")
        for key, node in mapping.items()
    }
    current = _string_or_none(chat.get("current_node"), f"{place}.current_node")
    title = _string_or_none(chat.get("title"), f"{place}.title") or ""
    return _Chat(title, messages, current, place)


def _chatgpt_message(value: Any, place: str) -> _Message:
    node = _object(value, place)
    parent = _string_or_none(node.get("parent"), f"{place}.parent")
    children = _strings(node.get("children", []), f"{place}.children")
    if node.get("message") is None:
        return _Message(parent, children)
    place = f"{place}.message"
    message = _object(node["message"], place)
    author = _object(_item(message, "author", place), f"{place}.author")
    role = _string(_item(author, "role", f"{place}.author"), f"{place}.author.role")
    content = _object(_item(message, "content", place), f"{place}.content")
    metadata = _object(message.get("metadata") or {}, f"{place}.metadata")
    hidden = (
        role not in ("user", "assistant")
        or content.get("content_type") not in ("text", "multimodal_text")
        or message.get("recipient", "all") != "all"
        or metadata.get("is_visually_hidden_from_conversation") is True
    )
    if hidden:
        return _Message(parent, children)
    parts = content.get("parts", [])
    if not isinstance(parts, list):
        raise InvalidRequest(f"{place}.content.parts must be a list")
    texts = [_part(part, f"{place}.content.parts[{index}]") for index, part in enumerate(parts)]
    return _Message(
        parent,
        children,
        role,
        "\n".join(filter(None, texts)),
        _string_or_none(metadata.get("model_slug"), f"{place}.metadata.model_slug") or "",
        time_ms=_time_ms(message.get("create_time"), f"{place}.create_time"),
    )


def _part(part: Any, place: str) -> str:
    """A part's text; an image or the like is named in brackets."""
    if isinstance(part, Mapping):
        if isinstance(part.get("text"), str):
            return _string(part["text"], f"{place}.text")
        return f"[{_string_or_none(part.get('content_type'), place) or 'attachment'}]"
    return _string(part, place)


# Open WebUI -----------------------------------------------------------------------------------


def _open_webui(entry: Any, place: str) -> _Chat:
    chat = _object(_item(_object(entry, place or "the document"), "chat", place), f"{place}.chat")
    history = _object(_item(chat, "history", f"{place}.chat"), f"{place}.chat.history")
    place_of_history = f"{place}.chat.history"
    found = _object(_item(history, "messages", place_of_history), f"{place_of_history}.messages")
    messages = {
        key: _open_webui_message(message, f"{place_of_history}.messages[{key!r:.80}]")
        for key, message in found.items()
    }
    current = _string_or_none(history.get("currentId"), f"{place_of_history}.currentId")
    title = chat.get("title") or entry.get("title")
    return _Chat(_string_or_none(title, f"{place}.chat.title") or "", messages, current, place)


def _open_webui_message(value: Any, place: str) -> _Message:
    message = _object(value, place)
    parent = _string_or_none(message.get("parentId"), f"{place}.parentId")
    children = _strings(message.get("childrenIds", []), f"{place}.childrenIds")
    role = _string(_item(message, "role", place), f"{place}.role")
    if role not in ("user", "assistant"):
        return _Message(parent, children)
    failure = message.get("error")
    error = ""
    if failure:
        said = failure.get("content") if isinstance(failure, Mapping) else failure
        error = (said if isinstance(said, str) else "") or "the model failed"
        error = _string(error, f"{place}.error")
    return _Message(
        parent,
        children,
        role,
        _string(message.get("content", ""), f"{place}.content"),
        _string_or_none(message.get("model"), f"{place}.model") or "",
        error,
        _time_ms(message.get("timestamp"), f"{place}.timestamp"),
    )


# The tree -------------------------------------------------------------------------------------


def _turns(chat: _Chat) -> Iterator[Turn]:
    branch = _branch(chat)
    asked = [index for index, key in enumerate(branch) if chat.messages[key].role == "user"]
    for number, (begin, end) in enumerate(pairwise([*asked, len(branch)]), 1):
        question = chat.messages[branch[begin]]
        candidates, choice = _candidates(chat, branch[begin], branch[begin + 1 : end], number + 1)
        yield Turn(
            turn=number,
            question=question.text or NO_TEXT,
            candidates=tuple(candidates),
            choice=choice,
            closed=True,
            opened_ms=question.time_ms,
            deadline_ms=question.time_ms,
            asked_revision=number,
            choice_revision=number + 1 if choice else 0,
        )


def _branch(chat: _Chat) -> list[str]:
    """The keys of the messages from the root to the current one."""
    if chat.current is None:
        if any(message.role for message in chat.messages.values()):
            raise InvalidRequest(f"{chat.place or 'the document'} names no current message")
        return []
    branch: list[str] = []
    seen: set[str] = set()
    key: str | None = chat.current
    while key is not None:
        _check_key(chat, key, seen)
        branch.append(key)
        key = chat.messages[key].parent
    return branch[::-1]


def _candidates(
    chat: _Chat, question: str, answer: list[str], revision: int
) -> tuple[list[Candidate], int]:
    """The answers to ``question`` in the order of its children, and the number of the one that
    ``answer``, the branch behind it, is; 0 where that one is none."""
    candidates: list[Candidate] = []
    choice = 0
    children = chat.messages[question].children
    if answer and answer[0] not in children:
        raise InvalidRequest(
            f"{chat.place or 'the document'}: message {answer[0]!r:.80} is no child of its parent"
        )
    for child in children:
        keys = answer if answer and child == answer[0] else list(_latest_branch(chat, child))
        said = [chat.messages[key] for key in keys if chat.messages[key].role == "assistant"]
        text = "\n\n".join(message.text for message in said if message.text)
        error = next((message.error for message in said if message.error), "")
        if not said and child not in answer:
            continue  # another question, or nothing that is shown
        number = len(candidates) + 1
        if keys is answer and text and not error:
            choice = number
        model = next((message.model for message in reversed(said) if message.model), "")
        candidates.append(_candidate(number, text, model, error, revision))
    return candidates or [_candidate(1, "", "", "", revision)], choice


def _candidate(number: int, text: str, model: str, error: str, revision: int) -> Candidate:
    return Candidate(
        number=number,
        node=0,
        model=model,
        ended=True,
        text=text,
        error=error or ("" if text else NO_ANSWER),
        planned_model=model,
        opened_revision=revision,
        ended_revision=revision,
    )


def _latest_branch(chat: _Chat, key: str) -> Iterator[str]:
    """From ``key`` down by each message's last child, up to the next one of the user."""
    seen: set[str] = set()
    while key:
        _check_key(chat, key, seen)
        message = chat.messages[key]
        if message.role == "user":
            return
        yield key
        key = message.children[-1] if message.children else ""


def _check_key(chat: _Chat, key: str, seen: set[str]) -> None:
    where = chat.place or "the document"
    if key not in chat.messages:
        raise InvalidRequest(f"{where}: message {key!r:.80} is named, and not there")
    if key in seen:
        raise InvalidRequest(f"{where}: message {key!r:.80} is its own ancestor")
    seen.add(key)


def _free_id(title: str, number: int, taken: dict[str, int]) -> str:
    """An id that is not ``taken``, and is from now on, with the number to try behind it next."""
    base = _NOT_IN_AN_ID.sub("-", title.casefold())[:50].strip("-") or f"chat-{number}"
    name, again = base, taken.get(base, 2)
    while name in taken:
        name, again = f"{base}-{again}", again + 1
    taken[base] = again
    taken.setdefault(name, 2)
    return name


# Values ---------------------------------------------------------------------------------------


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place} must be a JSON object")
    return value


def _item(value: Mapping[str, Any], key: str, place: str) -> Any:
    if key not in value:
        raise InvalidRequest(f"{place or 'the document'} lacks {key!r}")
    return value[key]


def _string(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{place} must be a string")
    # Halves of surrogate pairs do occur, where a program cut an emoji in two.
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _string_or_none(value: Any, place: str) -> str | None:
    return None if value is None else _string(value, place)


def _strings(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{place} must be a list")
    return tuple(_string(each, f"{place}[{index}]") for index, each in enumerate(value))


def _time_ms(value: Any, place: str) -> int:
    """Seconds since the epoch as milliseconds; 0 where there is none."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{place} must be a number of seconds")
    if not (math.isfinite(value) and 0 <= value <= TIME_MAX_MS / 1000):
        raise InvalidRequest(f"{place} is no time: {value!r:.40}")
    return int(value * 1000)
