"""Owns where lines come from when nobody types them: a script, or a pipe to standard input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import BinaryIO

from .files import read_some
from .lexer import BLOCK, Misuse
from .parser import Table, needs_more_lines

_CHUNK_BYTES = 1 << 16
LINE_BYTES_MAX = 64 << 20
"""A line with no end in sight is no script."""


class NotUtf8(Misuse):
    """A line that is not UTF-8; ``text`` has replacement characters in it."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"line {number} is not UTF-8 text")
        self.text = text


async def read_lines(stream: BinaryIO) -> AsyncIterator[tuple[int, str | Misuse]]:
    """The lines with their numbers, as they come; a Misuse in place of one that is not UTF-8."""
    number = 0
    async for line in _split(stream):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            yield number, Misuse(f"line {number} has more than {LINE_BYTES_MAX} bytes")
            return
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError:
            yield number, NotUtf8(number, line.decode(encoding, errors="replace"))


async def join_blocks(
    table: Table, lines: AsyncIterator[tuple[int, str | Misuse]]
) -> AsyncIterator[tuple[int, str | Misuse]]:
    """The same lines, those of a block joined to one; its number is that of the first. A block with
    a line that cannot be read is one Misuse: nothing of it is a command."""
    async for number, line in lines:
        text = line.text if isinstance(line, NotUtf8) else line
        if isinstance(text, Misuse) or not needs_more_lines(table, text):
            yield number, line
            continue
        misuse = line if isinstance(line, Misuse) else None
        parts = [text]
        async for _, following in lines:
            if isinstance(following, Misuse):
                misuse = misuse or following
            text = following.text if isinstance(following, NotUtf8) else following
            if isinstance(text, Misuse):
                continue
            parts.append(text)
            if BLOCK in text:
                yield number, misuse or "\n".join(parts)
                break
        else:
            yield number, misuse or Misuse(f"the {BLOCK} block of line {number} is not closed")


async def _split(stream: BinaryIO) -> AsyncIterator[bytes]:
    """Lines without their newline; the last one may lack it."""
    parts: list[bytes] = []
    while chunk := await _read_some(stream):
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join([*parts, line])
            parts = []
        if rest:
            parts.append(rest)
        if sum(map(len, parts)) > LINE_BYTES_MAX:
            break
    if parts:
        yield b"".join(parts)


async def _read_some(stream: BinaryIO) -> bytes:
    try:
        descriptor = stream.fileno()
    except OSError:
        return stream.read(_CHUNK_BYTES)
    return await read_some(descriptor)
