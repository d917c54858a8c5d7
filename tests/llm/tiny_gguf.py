"""Writes a GGUF file that llama.cpp loads: a llama of one layer with random weights, some 120 KiB.

What it says is letters without sense, but it is read, computed and sampled as a real model is. Its
tokens are single characters, with all bytes behind them, so that text has one way to be read. The
format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
"""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTROL = ("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")
LETTERS = "▁abcdefghijklmnopqrstuvwxyzäöü.,?!"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] }}{{ eos_token }}{% endfor %}<|assistant|>"
)
BEGIN, END = 1, 2

_WIDTH, _HEADS, _FORWARD, _CONTEXT = 32, 2, 64, 2048
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_ALIGNMENT = 32


def write(
    path: Path,
    *,
    seed: int = 1,
    end: float = 0.2,
    always: str = "",
    template: str = TEMPLATE,
    space: bool = False,
) -> Path:
    """``end``: how much the model wants to end its answer, at each token. ``always``: the one token
    that it says. ``space``: its tokenizer puts a space before a text, as Llama 2's does."""
    control, byte = [*CONTROL], [f"<0x{number:02X}>" for number in range(256)]
    tokens = ["<unk>", *control, *byte, *LETTERS]
    kinds = [_UNKNOWN, *[_CONTROL] * len(control), *[_BYTE] * 256, *[_NORMAL] * len(LETTERS)]
    facts = {
        "general.architecture": _string("llama"),
        "general.name": _string("tiny"),
        "llama.context_length": _number(_CONTEXT),
        "llama.embedding_length": _number(_WIDTH),
        "llama.block_count": _number(1),
        "llama.feed_forward_length": _number(_FORWARD),
        "llama.attention.head_count": _number(_HEADS),
        "llama.attention.layer_norm_rms_epsilon": struct.pack("<If", _FLOAT32, 1e-5),
        "llama.rope.dimension_count": _number(_WIDTH // _HEADS),
        "tokenizer.ggml.model": _string("llama"),
        "tokenizer.ggml.tokens": _array(_STRING, [_text(token) for token in tokens]),
        "tokenizer.ggml.scores": _array(_FLOAT32, [struct.pack("<f", 0.0) for _ in tokens]),
        "tokenizer.ggml.token_type": _array(5, [struct.pack("<i", kind) for kind in kinds]),
        "tokenizer.ggml.bos_token_id": _number(BEGIN),
        "tokenizer.ggml.eos_token_id": _number(END),
        "tokenizer.ggml.add_space_prefix": struct.pack("<I?", _BOOL, space),
    }
    if template:
        facts["tokenizer.chat_template"] = _string(template)
    wishes = {END: end, **({tokens.index(always): 99.0} if always else {})}
    tensors = _tensors(random.Random(seed), kinds, wishes)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts))
    head += b"".join(_text(name) + fact for name, fact in facts.items())
    data = b""
    for name, (shape, numbers) in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += _aligned(numbers.tobytes())
    path.write_bytes(_aligned(head) + data)
    return path


def _tensors(
    dice: random.Random, kinds: Sequence[int], wishes: Mapping[int, float]
) -> dict[str, tuple[tuple[int, ...], array[float]]]:
    """Each as its shape, the innermost size first, and its numbers."""

    def matrix(columns: int, rows: int) -> tuple[tuple[int, ...], array[float]]:
        spread = 1 / math.sqrt(columns)
        return (columns, rows), array("f", [dice.gauss(0, spread) for _ in range(columns * rows)])

    ones = (_WIDTH,), array("f", [1.0] * _WIDTH)
    shape, embedding = matrix(_WIDTH, len(kinds))
    embedding[::_WIDTH] = array("f", [1.0] * len(kinds))  # the same of every token
    _, output = matrix(_WIDTH, len(kinds))
    for token, kind in enumerate(kinds):  # letters are what it says, or what it wishes
        if kind != _NORMAL or token in wishes:
            output[token * _WIDTH : (token + 1) * _WIDTH] = array("f", [0.0] * _WIDTH)
            output[token * _WIDTH] = wishes.get(token, -9.0)
    return {
        "token_embd.weight": (shape, embedding),
        "blk.0.attn_norm.weight": ones,
        "blk.0.attn_q.weight": matrix(_WIDTH, _WIDTH),
        "blk.0.attn_k.weight": matrix(_WIDTH, _WIDTH),
        "blk.0.attn_v.weight": matrix(_WIDTH, _WIDTH),
        "blk.0.attn_output.weight": matrix(_WIDTH, _WIDTH),
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": matrix(_WIDTH, _FORWARD),
        "blk.0.ffn_up.weight": matrix(_WIDTH, _FORWARD),
        "blk.0.ffn_down.weight": matrix(_FORWARD, _WIDTH),
        "output_norm.weight": ones,
        "output.weight": (shape, output),
    }


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _string(text: str) -> bytes:
    return struct.pack("<I", _STRING) + _text(text)


def _number(number: int) -> bytes:
    return struct.pack("<II", _UINT32, number)


def _array(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
