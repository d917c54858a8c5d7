"""The one error that decoding raises, whatever the bytes."""

from __future__ import annotations


class MalformedMessage(ValueError):
    """The bytes are not a message of this protocol; the text says in one line why not."""
