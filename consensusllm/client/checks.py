"""What a call can be checked for before anything is sent. The cluster checks all of it again.

Each function returns what it was given, or raises InvalidRequest: one line that says what to do.
"""

from __future__ import annotations

import re

from consensusllm.client.errors import InvalidRequest
from consensusllm.conversations.commands import GenerationOptions
from consensusllm.conversations.limits import Limits
from consensusllm.wire.generated import client_pb2
from consensusllm.wire.records import options_to_proto

_LIMITS = Limits()
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def conversation_id(conversation: str) -> str:
    if not isinstance(conversation, str) or not _ID.fullmatch(conversation):
        raise InvalidRequest(
            f"{conversation!r:.80} is no conversation id: use 1 to 64 of A-Z a-z 0-9 . _ -"
        )
    return conversation


def number(number: int | None, what: str) -> int:
    """``number``, with None as the protocol's 0."""
    if number is None:
        return 0
    if not isinstance(number, int) or not 0 <= number < 1 << 32:
        raise InvalidRequest(f"{number!r} is no {what}: give a whole number")
    return number


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise InvalidRequest(f"{what} must be Unicode text") from None


def text(text: str, what: str) -> str:
    _utf8(text, what)
    return text


def question(question: str) -> str:
    size_bytes = len(_utf8(question, "the question"))
    if not question:
        raise InvalidRequest("the question is empty: say what to ask")
    if size_bytes > _LIMITS.question_bytes:
        raise InvalidRequest(
            f"the question has {size_bytes} bytes: the most is {_LIMITS.question_bytes}"
        )
    return question


def options(options: GenerationOptions) -> client_pb2.GenerationOptions:
    try:
        return options_to_proto(options)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the options are out of range: {error}") from None


def key(key: str) -> str:
    _utf8(key, "a key")
    if not 1 <= len(key) <= _LIMITS.key_characters:
        raise InvalidRequest(f"a key has 1 to {_LIMITS.key_characters} characters, not {len(key)}")
    return key


def value(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidRequest("a value must be bytes")
    if len(value) > _LIMITS.value_bytes:
        raise InvalidRequest(f"the value has {len(value)} bytes: the most is {_LIMITS.value_bytes}")
    return value
