"""Owns the plots: bars as SVG, written by hand, one file a workload. Pure but for `write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from .figures import SYSTEMS, Cell, Results
from .plan import WORKLOADS

COLOURS = dict(zip(SYSTEMS, ("#1b6ca8", "#7fb2d9", "#d9822b", "#f0c08a", "#8a8a8a"), strict=True))
_WIDTH, _LABELS, _FIGURES = 760, 210, 110
_BAR, _GAP, _TOP = 18, 12, 56
_FONT = 'font-family="sans-serif" font-size="12"'

LOOPS = ("puts", "reads", "connections", "conversations")
_SHOWN = {
    "puts": ("per_second", "calls a second; more is better"),
    "reads": ("per_second", "calls a second; more is better"),
    "connections": ("per_second", "calls a second; more is better"),
    "conversations": ("per_second", "turns a second; more is better"),
    "memory": ("rss_mib", "MiB of the largest node; less is better"),
    "failover": ("gap_ms", "milliseconds; less is better"),
    "catch-up": ("back_ms", "milliseconds; less is better"),
}


def bars(title: str, subtitle: str, groups: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """A chart of horizontal bars: groups of ``(system, value)``, on one scale from 0."""
    most = max((value for group in groups.values() for _, value in group), default=0.0) or 1.0
    room = _WIDTH - _LABELS - _FIGURES
    shapes: list[str] = []
    y = _TOP
    for name, group in groups.items():
        for index, (system, value) in enumerate(group):
            middle = y + _BAR - 5
            label = f"{name} {system}" if index == 0 else system
            length = max(1.0, room * value / most)
            shapes.append(
                f'<text x="{_LABELS - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>'
                f'<rect x="{_LABELS}" y="{y}" width="{length:.1f}" height="{_BAR - 3}" '
                f'fill="{COLOURS.get(system, "#444444")}"/>'
                f'<text x="{_LABELS + length + 6:.1f}" y="{middle}">{value:,.0f}</text>'
            )
            y += _BAR
        y += _GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" '
            f'width="{_WIDTH}" height="{y}" {_FONT} fill="#222222">',
            f'<rect width="{_WIDTH}" height="{y}" fill="#ffffff"/>',
            f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
            f'<text x="12" y="42" fill="#666666">{escape(subtitle)}</text>',
            *shapes,
            "</svg>\n",
        ]
    )


def write(results: Results, directory: Path) -> list[Path]:
    """Write one file a workload that was measured, and return them."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for workload, (figure, unit) in _SHOWN.items():
        groups: dict[str, list[tuple[str, float]]] = {}
        for cell in results.cells(workload):
            value = results.median(cell, figure)
            if value is not None:
                groups.setdefault(_group(cell), []).append((cell.system, value))
        if groups:
            path = directory / f"{workload}.svg"
            title = f"{workload}: {WORKLOADS[workload]}"
            path.write_text(bars(title, f"medians; {unit}", groups), encoding="utf-8")
            written.append(path)
    return written


def _group(cell: Cell) -> str:
    return f"{cell.outstanding} outstanding," if cell.workload in LOOPS else ""
