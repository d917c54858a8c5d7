"""Owns the prompt that a person types at: editing, history, completion, the bottom line."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from .completion import CommandCompleter
from .history import open_history
from .interrupts import Interrupted, Interrupts
from .parser import lines_of, needs_more_lines
from .session import Leave, Session
from .toolbar import Toolbar

PROMPT = "consensusllm> "
_CONTINUATION = "… ".rjust(len(PROMPT))


async def run_prompt(session: Session, interrupts: Interrupts, history: Path | None) -> None:
    """Read and run lines until exit or Ctrl-D. Ctrl-C clears the line, or stops what is running."""
    toolbar = Toolbar(session)
    prompt = _make_prompt(session, toolbar, history)
    session.output.line("ConsensusLLM: help lists the commands, exit or Ctrl-D leaves")
    refreshing = asyncio.create_task(toolbar.refresh(prompt.app.invalidate))
    try:
        while True:
            try:
                text = await prompt.prompt_async(handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            try:
                for line in lines_of(session.table, text):
                    await interrupts.guard(session.run(line))
            except Interrupted:
                session.output.line("interrupted")
            except Leave:
                return
            toolbar.wake()
    finally:
        refreshing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await refreshing


def _make_prompt(session: Session, toolbar: Toolbar, history: Path | None) -> PromptSession[str]:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @Condition
    def block_is_open() -> bool:
        return needs_more_lines(session.table, prompt.default_buffer.text)

    prompt: PromptSession[str] = PromptSession(
        PROMPT,
        multiline=block_is_open,
        prompt_continuation=_CONTINUATION,
        history=open_history(history),
        auto_suggest=AutoSuggestFromHistory(),
        completer=CommandCompleter(session.table, session.known),
        complete_while_typing=False,
        bottom_toolbar=toolbar,
        key_bindings=keys,
    )
    return prompt
