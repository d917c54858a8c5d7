"""What of a conversation a model can read: the prompt within its context window.

The system prompt and the question always stay. Where the earlier turns are too much beside them,
the oldest ones go first, question and answer together, and only as many as have to. No text is
cut, and what does not fit without any earlier turn is not asked.

Tokens are estimated, since every model counts its own: one for each BYTES_A_TOKEN bytes where it is
only to be told what was used, and with caution, one for each CAUTIOUS_BYTES_A_TOKEN, where it has
to fit.
"""

from __future__ import annotations

from collections.abc import Iterable

from .prompt import Prompt

BYTES_A_TOKEN = 4
"""English prose, by the tokenizers in use."""

CAUTIOUS_BYTES_A_TOKEN = 3
"""Code, figures and other scripts take more tokens than prose."""

MESSAGE_TOKENS = 8
"""What a model's chat template adds to a message."""

ANSWER_SHARE = 4
"""One part in so many of the window is left for an answer whose length nothing bounds."""


class TooLong(ValueError):
    """What is asked does not fit, whatever is left out; one line that says what to do."""


def estimated_tokens(texts: Iterable[str]) -> int:
    """About how many tokens ``texts`` have together, begun ones counted."""
    return -(-sum(map(_size, texts)) // BYTES_A_TOKEN)


def fitted(
    prompt: Prompt, beside: Iterable[str], context_tokens: int, answer_tokens: int | None
) -> tuple[Prompt, int]:
    """What of ``prompt`` is sent, and how many of its turns, the oldest ones, are left out for it.

    ``beside`` is what the model is told beside it, ``context_tokens`` (0: not known, all is sent)
    what it can read and write in all, and ``answer_tokens`` the most that it is to write (None:
    one part in ANSWER_SHARE is left for that). Raises TooLong.
    """
    if not context_tokens:
        return prompt, 0
    if answer_tokens is None:
        answer_tokens = context_tokens // ANSWER_SHARE
    *earlier, (_, question) = prompt
    needed = _cautious(question) + sum(_cautious(text) for text in beside if text)
    room = context_tokens - answer_tokens
    if needed > room:
        raise TooLong(
            f"what is asked takes some {needed:,} tokens, even without the earlier turns, and the "
            f"model has {context_tokens:,}, of which {answer_tokens:,} are for the answer: shorten "
            "it, lower max_tokens, or ask a model with a longer context"
        )
    left_out = len(earlier) // 2
    while left_out:
        asked, answered = earlier[2 * left_out - 2 : 2 * left_out]
        needed += _cautious(asked[1]) + _cautious(answered[1])
        if needed > room:
            break
        left_out -= 1
    return prompt[2 * left_out :], left_out


def _cautious(text: str) -> int:
    """How many tokens a message may take at most, as far as an estimate can say."""
    return MESSAGE_TOKENS - (-_size(text) // CAUTIOUS_BYTES_A_TOKEN)


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
