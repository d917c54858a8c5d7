"""What stand-ins for models, which read no schema, say where a ranking is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .port import GenerateRequest


def labels_of(request: GenerateRequest) -> tuple[str, ...]:
    """What ``request``'s schema wants to be ranked, in its order; () where it wants no ranking."""
    found: object = request.schema
    for key in ("properties", "ranking", "items", "enum"):
        found = found.get(key) if isinstance(found, dict) else None
    return tuple(map(str, found)) if isinstance(found, list) else ()


def ranking(review: str, ranked: Sequence[str]) -> str:
    """The answer that ranks ``ranked``, the best first."""
    return json.dumps({"review": review, "ranking": list(ranked)}, ensure_ascii=False)
