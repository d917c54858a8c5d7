"""The rules of plain keys: put, compare-and-swap, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .commands import CompareAndSwap, DeleteKey, Put
from .limits import Limits
from .refusal import Refusal, named
from .replies import Code, Reply
from .sessions import DONE
from .state import State


class KeyRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {
            Put: self._put,
            CompareAndSwap: self._compare_and_swap,
            DeleteKey: self._delete,
        }

    def _put(self, put: Put) -> Reply:
        self._set(put.key, put.value)
        return DONE

    def _compare_and_swap(self, swap: CompareAndSwap) -> Reply:
        current = self._state.keys.get(swap.key)
        if current != swap.expected:
            raise Refusal(
                Code.CONFLICT,
                f"key {named(swap.key)} holds another value: "
                "look at the one that stands there and decide again"
                if current is not None
                else f"key {named(swap.key)} does not exist: expect it to be absent, or put it",
                current=current,
            )
        if swap.new is not None:
            self._set(swap.key, swap.new)
        elif current is not None:
            self._state.delete_key(swap.key)
        return DONE

    def _delete(self, delete: DeleteKey) -> Reply:
        if delete.key not in self._state.keys:
            raise Refusal(Code.NOT_FOUND, f"no key {named(delete.key)}: nothing to delete")
        self._state.delete_key(delete.key)
        return DONE

    def _set(self, key: str, value: bytes) -> None:
        limits = self._limits
        if len(value) > limits.value_bytes:
            raise Refusal(
                Code.TOO_LARGE,
                f"the value of {named(key)} has {len(value)} bytes, "
                f"over the limit of {limits.value_bytes}: shorten it",
            )
        if key not in self._state.keys:
            if not 1 <= len(key) <= limits.key_characters:
                raise Refusal(
                    Code.INVALID,
                    f"a key of {len(key)} characters: use 1 to {limits.key_characters}",
                )
            if len(self._state.keys) >= limits.keys:
                raise Refusal(
                    Code.TOO_LARGE, f"there are {limits.keys} keys, the limit: delete some first"
                )
        self._state.set_key(key, value)
