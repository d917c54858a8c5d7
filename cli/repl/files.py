"""Owns the files that a line names, pipes and devices among them.

Nothing here holds the event loop: who reads a pipe that nobody writes can be interrupted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .session import CommandFailed

_CHUNK_BYTES = 1 << 16
_LINKS_MAX = 40
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")


def path_of(file: str) -> Path:
    """Where ``file`` is: ``~`` and ``~NAME`` stand for somebody's home. Raises CommandFailed."""
    try:
        return Path(file).expanduser()
    except RuntimeError:
        raise CommandFailed(f"{file}: there is no such home: write the path in full") from None


async def read_bytes(file: str, bytes_max: int) -> bytes:
    """All of the file, or a little more than ``bytes_max``. A pipe ends where nobody writes it any
    more. Raises OSError, which names the file, and CommandFailed."""
    parts, size = [], 0
    try:
        with _opened(path_of(file), os.O_RDONLY) as descriptor:
            while size <= bytes_max and (part := await read_some(descriptor)):
                parts.append(part)
                size += len(part)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from None
    return b"".join(parts)


async def write_text(file: str, text: str) -> None:
    """Write beside the file and rename, so that it is never seen half written. A device or a pipe
    stays what it is, and so does a link, and who may read a file that is there. Raises OSError, and
    CommandFailed."""
    path = path_of(file)
    number = _descriptor_of(path)
    if path.exists() and (number is not None or not path.is_file()):
        await _write_into(path, number if path.is_file() else None, text.encode())
        return
    with suppress(OSError, RuntimeError):  # a loop of links: the writing says so
        path = path.resolve()
    if not path.parent.is_dir():
        raise CommandFailed(f"{file}: there is no directory {path.parent}: make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            mode = path.stat().st_mode & 0o777
            temporary.touch(0o600)
            temporary.chmod(mode)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _descriptor_of(path: Path) -> int | None:
    """Which of this process's open files it is, as /dev/stdout is one."""
    for _ in range(_LINKS_MAX):
        if str(path.parent) in _DESCRIPTORS and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


async def read_some(descriptor: int) -> bytes:
    """What is there to read, once there is something; empty at the end."""
    loop = asyncio.get_running_loop()
    await _ready(descriptor, loop.add_reader, loop.remove_reader)
    return os.read(descriptor, _CHUNK_BYTES)


async def _write_into(path: Path, number: int | None, data: bytes) -> None:
    """``number``: a file that is open already is written on where it is."""
    loop = asyncio.get_running_loop()
    left = memoryview(data)
    try:
        with _opened(path, os.O_WRONLY, number) as descriptor:
            while left:
                await _ready(descriptor, loop.add_writer, loop.remove_writer)
                left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise CommandFailed(
            f"{path}: {error.strerror}: name a file, or a pipe that somebody reads"
        ) from None


@contextmanager
def _opened(path: Path, flags: int, number: int | None = None) -> Iterator[int]:
    """A descriptor of the file, at once: the other end of a pipe is not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK) if number is None else os.dup(number)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _ready(
    descriptor: int,
    add: Callable[[int, Callable[[], None]], None],
    remove: Callable[[int], bool],
) -> None:
    ready = asyncio.Event()
    try:
        add(descriptor, ready.set)
    except PermissionError:
        return  # A regular file cannot be waited for, and is always ready.
    try:
        await ready.wait()
    finally:
        remove(descriptor)
