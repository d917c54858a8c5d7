"""Owns an explanation as a picture: one SVG, or one HTML page with it, that load nothing else.

Whatever comes from the history is made printable and escaped.
"""

from __future__ import annotations

from html import escape

from .explain import Explanation
from .timeline import (
    TABLE_HEAD,
    Bar,
    Role,
    Timeline,
    columns,
    describe,
    headline,
    lay_out,
    shorten,
    show_state,
    summary,
)

_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP = 110, 40, 40
_LANE_HEIGHT, _BAR_HEIGHT = 46, 26
_WIDTH_MIN = 1100
_CHARACTER_WIDTH = 7.4
_LABEL_CHARACTERS_MAX = 22
_TOOLTIP_CHARACTERS_MAX = 300

_COLOURS = """
--paper: #ffffff; --ink: #1f2328; --faint: #6e7781; --rule: #d0d7de;
--ordered: #cfe3fb; --ordered-edge: #2f6fc0; --open: #eeeeee; --open-edge: #8c959f;
--stuck: #ffd3cf; --stuck-edge: #c62828; --point: #12407a;
"""
_DARK_COLOURS = """
--paper: #14181d; --ink: #e6edf3; --faint: #9aa4af; --rule: #30363d;
--ordered: #17365c; --ordered-edge: #6ea8f2; --open: #262b31; --open-edge: #7d8590;
--stuck: #5c1a1a; --stuck-edge: #ff7b72; --point: #b6d6ff;
"""
_STYLE = f"""
:root, svg {{ color-scheme: light dark; {_COLOURS} }}
@media (prefers-color-scheme: dark) {{ :root, svg {{ {_DARK_COLOURS} }} }}
svg text {{ font: 12px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink); }}
svg .faint {{ fill: var(--faint); }}
svg .paper {{ fill: var(--paper); }}
svg .rule {{ stroke: var(--rule); }}
svg .bar {{ stroke-width: 1.5; }}
svg .ordered .bar {{ fill: var(--ordered); stroke: var(--ordered-edge); }}
svg .stuck .bar {{ fill: var(--stuck); stroke: var(--stuck-edge); stroke-width: 2.5; }}
svg .open .bar {{ fill: var(--open); stroke: var(--open-edge); stroke-dasharray: 4 3; }}
svg .point {{ fill: var(--point); stroke: var(--paper); stroke-width: 1.5; }}
"""
_PAGE_STYLE = """
body { background: var(--paper); color: var(--ink); margin: 2rem; max-width: 1200px;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin-top: 1.5rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
td { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
tr.stuck td { color: var(--stuck-edge); font-weight: bold; }
tr.open td { color: var(--faint); }
"""


def render_svg(explanation: Explanation) -> str:
    """A stand-alone SVG document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_svg(explanation, lay_out(explanation))}'


def render_html(explanation: Explanation) -> str:
    """A stand-alone HTML document: the drawing, and a table of the operations in it."""
    timeline = lay_out(explanation)
    hidden = f"<p>{timeline.hidden} more are not drawn.</p>" if timeline.hidden else ""
    title = escape(headline(explanation))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_PAGE_STYLE}</style>
</head>
<body>
<h1>{title[:1].upper()}{title[1:]}</h1>
<p>{escape(summary(explanation))}</p>
{hidden}
<div class="scroll">
{_svg(explanation, timeline)}</div>
<table>
<tr>{"".join(f"<th>{head}</th>" for head in TABLE_HEAD)}</tr>
{"".join(_table_row(bar) for bar in timeline.bars)}</table>
</body>
</html>
"""


def _table_row(bar: Bar) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in bar.row(_TOOLTIP_CHARACTERS_MAX))
    return f'<tr class="{bar.role.value}">{cells}</tr>\n'


def _label(bar: Bar) -> str:
    return f"{bar.name}  {describe(bar.step.operation, _LABEL_CHARACTERS_MAX)}"


def _svg(explanation: Explanation, timeline: Timeline) -> str:
    places = columns(timeline, lambda bar: len(_label(bar)) * _CHARACTER_WIDTH + 18, gap=16)
    room = _WIDTH_MIN - _MARGIN_LEFT - _MARGIN_RIGHT
    stretch = max(1.0, room / places[-1]) if places[-1] else 1.0
    places = [_MARGIN_LEFT + place * stretch for place in places]
    width = places[-1] + _MARGIN_RIGHT
    lanes_end = _MARGIN_TOP + len(timeline.lanes) * _LANE_HEIGHT
    height = lanes_end + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img"'
        f' aria-label="{escape(headline(explanation))}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height}"/>',
        f'<text x="8" y="20">{escape(headline(explanation))}; it holds'
        f" {escape(shorten(show_state(explanation.initial)))} at first</text>",
    ]
    for lane, process in enumerate(timeline.lanes):
        y = _MARGIN_TOP + lane * _LANE_HEIGHT + _LANE_HEIGHT / 2
        parts.append(
            f'<line class="rule" x1="{_MARGIN_LEFT}" x2="{width:.0f}" y1="{y}" y2="{y}"/>'
            f'<text class="faint" x="8" y="{y + 4}">process {process}</text>'
        )
    parts += [_bar(bar, timeline, places) for bar in timeline.bars]
    parts += [_point(bar, places) for bar in timeline.bars if bar.point is not None]
    parts.append(_legend(lanes_end + 30))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _y(bar: Bar) -> float:
    return _MARGIN_TOP + bar.lane * _LANE_HEIGHT + (_LANE_HEIGHT - _BAR_HEIGHT) / 2


def _bar(bar: Bar, timeline: Timeline, places: list[float]) -> str:
    left, right = places[bar.begin], places[bar.end]
    if bar.end == timeline.moments - 1:
        right += _MARGIN_RIGHT - 8  # An unknown outcome has no end in sight.
    _, process, times, what, after = bar.row(_TOOLTIP_CHARACTERS_MAX)
    tooltip = f"process {process}: {what} ({times}); {after}"
    return (
        f'<g class="{bar.role.value}"><title>{escape(tooltip)}</title>'
        f'<rect class="bar" x="{left:.1f}" y="{_y(bar)}" width="{max(right - left, 3):.1f}"'
        f' height="{_BAR_HEIGHT}" rx="4"/>'
        f'<text x="{left + 8:.1f}" y="{_y(bar) + 17}">{escape(_label(bar))}</text></g>'
    )


def _point(bar: Bar, places: list[float]) -> str:
    assert bar.point is not None
    before = min(int(bar.point), len(places) - 2)
    x = places[before] + (bar.point - before) * (places[before + 1] - places[before])
    return (
        f'<circle class="point" cx="{x:.1f}" cy="{_y(bar) + _BAR_HEIGHT}" r="5">'
        f"<title>{escape(bar.name)} takes effect</title></circle>"
    )


def _legend(y: float) -> str:
    """The three kinds of bars, and the points."""
    entries = [
        (Role.ORDERED, "in the longest order, by number"),
        (Role.STUCK, "fits nowhere"),
        (Role.OPEN, "under way or unknown, does not help"),
    ]
    parts: list[str] = []
    x = 8.0
    for role, text in entries:
        parts.append(
            f'<g class="{role.value}"><rect class="bar" x="{x:.0f}" y="{y}" width="22" height="14"'
            f' rx="3"/></g><text class="faint" x="{x + 30:.0f}" y="{y + 12}">{text}</text>'
        )
        x += 30 + len(text) * _CHARACTER_WIDTH + 28
    parts.append(
        f'<circle class="point" cx="{x + 6:.0f}" cy="{y + 7}" r="5"/>'
        f'<text class="faint" x="{x + 18:.0f}" y="{y + 12}">takes effect here</text>'
    )
    return "".join(parts)
