"""What a model is told of the field that a question is from."""

from __future__ import annotations

from collections.abc import Mapping

from .planning import Unplannable, unknown

BUILT_IN: Mapping[str, str] = {
    "education": (
        "You help somebody to learn. Explain step by step, from what is known to what is new, with "
        "an example, and say what to try next."
    ),
    "healthcare": (
        "The question is about health. Be exact, name the evidence and how sure it is, say what "
        "would need a doctor at once, and that this is no examination."
    ),
    "policy": (
        "The question is about public policy. Name who gains, who loses and what it costs, give "
        "the strongest case of each side, and keep facts and values apart."
    ),
    "law": (
        "The question is about law. Say in which jurisdiction an answer holds, name the rule "
        "before you apply it, and say where a lawyer is needed."
    ),
    "engineering": (
        "The question is about engineering. State assumptions and units, show the reckoning, and "
        "name the ways in which it can fail."
    ),
}
"""By the names that a configuration may replace, or add to."""


def role(domain: str, persona: str, configured: Mapping[str, str]) -> str | None:
    """What comes before the system prompt; None where neither is asked for. Raises Unplannable."""
    parts = []
    if domain:
        known = {**BUILT_IN, **configured}
        if domain not in known:
            raise Unplannable(unknown("domain", domain, list(known)))
        parts.append(known[domain])
    if persona:
        parts.append(f"You are {persona}.")
    return "\n\n".join(parts) or None
