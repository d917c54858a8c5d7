r"""Reading a ranking out of what a model wrote: leniently in form, strictly in content. Pure.

Read, in this order:

1. ``"ranking": ["B", "A", ...]`` of a JSON object, whatever stands around it;
2. what follows the last line that says "final ranking": numbered lines (``1. Answer B``), or one
   line ``B > A > C``.

A label may be written as ``B``, ``Answer B`` or ``Response B``. A ranking counts where it names
every label that was shown exactly once, and no other. Anything else is no ranking, and so are two
that contradict each other: nothing is guessed. Thoughts that a model closes with ``</think>`` are
not read, and of a long text only the end is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

READ_CHARACTERS = 20_000

_LABEL = r"(?:(?:answer|response)[ ]+)?([a-z])"
_JSON = re.compile(r'"ranking"[ \t\r\n]*:[ \t\r\n]*\[([^\[\]]{0,2000})\]', re.IGNORECASE | re.ASCII)
_STRING = re.compile(r'"([^"]{0,40})"')
_WORD = re.compile(rf"[ \t*_`]*{_LABEL}[ \t*_`.]*", re.IGNORECASE | re.ASCII)
_HEADING = re.compile(
    r"^[ \t#*_]*final[ ]ranking[ \t*_]*:?[ \t*_]*", re.IGNORECASE | re.MULTILINE | re.ASCII
)
_LINE = re.compile(
    rf"^[ \t*_]*([0-9]{{1,2}})[.)][ \t*_`]*{_LABEL}(?![a-z0-9])", re.IGNORECASE | re.ASCII
)


def read_ranking(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    """``labels`` in the order of ``text``'s ranking, the best first; () where there is none.

    ``labels`` are the single capital letters that were shown. Takes time in proportion to
    READ_CHARACTERS at most.
    """
    said = text[-READ_CHARACTERS:].rpartition("</think>")[2]
    found = [_words(_STRING.findall(match)) for match in _JSON.findall(said)] or [_listed(said)]
    if any(ranking != found[0] for ranking in found):
        return ()
    return found[0] if sorted(found[0]) == sorted(labels) else ()


def _words(words: Sequence[str]) -> tuple[str, ...]:
    matches = [_WORD.fullmatch(word) for word in words]
    return tuple(match[1].upper() if match else "" for match in matches)


def _listed(text: str) -> tuple[str, ...]:
    headings = list(_HEADING.finditer(text))
    if not headings:
        return ()
    lines = [line for line in text[headings[-1].end() :].split("\n") if line.strip()]
    if lines and ">" in lines[0]:
        return _words(lines[0].split(">"))
    ranking: list[str] = []
    for line in lines:
        match = _LINE.match(line)
        if match is None or int(match[1]) != len(ranking) + 1:
            break
        ranking.append(match[2].upper())
    return tuple(ranking)
