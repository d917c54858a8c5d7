"""``consensusllm check-history``: the verdict on a recorded history, with a picture on failure."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from consensusllm.linearizability import (
    Explanation,
    Format,
    MalformedHistory,
    Report,
    Verdict,
    check,
    explain,
    printable,
    read_history,
    render_html,
    render_svg,
    render_text,
)

from .options import Finite

_EXPLANATION_LIMIT_S = 10.0


STATUS_MISUSE = 2


def _refuse(message: str) -> int:
    click.echo(f"check-history: {message}", err=True)
    return STATUS_MISUSE


def _picture_path(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> Path | None:
    if value is not None and value.suffix not in (".html", ".svg"):
        raise click.BadParameter("must end in .html or .svg")
    return value


@click.command("check-history")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice([each.value for each in Format]),
    default=Format.AUTO.value,
    show_default=True,
    help="What FILE holds: our JSON lines, a Jepsen register log, or a kv log.",
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=Finite(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Answer `undecided` after that.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    callback=_picture_path,
    metavar="OUT.html|OUT.svg",
    help="Where to draw the offending part, if there is one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def check_history(
    file: Path, format_name: str, time_limit_s: float, picture: Path | None, as_json: bool
) -> int:
    """Say whether the operations recorded in FILE are linearizable.

    Exit status: 0 linearizable, 1 not linearizable or undecided, 2 misuse or a malformed FILE.
    """
    try:
        history = read_history(file.read_bytes(), Format(format_name))
    except OSError as error:
        return _refuse(f"{printable(str(file))}: {error.strerror}")
    except MalformedHistory as error:
        return _refuse(f"{printable(str(file))} {error}")
    began = time.monotonic()
    report = check(history, time.monotonic, time_limit_s)
    seconds = time.monotonic() - began
    explanation = None
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        explanation = explain(history, report, time.monotonic, _EXPLANATION_LIMIT_S)
    if as_json:
        click.echo(json.dumps(_as_json(report, seconds, explanation)))
    else:
        _print(report, seconds, time_limit_s, explanation)
    if picture is not None and explanation is not None:
        draw = render_html if picture.suffix == ".html" else render_svg
        try:
            picture.write_text(draw(explanation), encoding="utf-8")
        except OSError as error:
            return _refuse(f"{printable(str(picture))}: {error.strerror}")
        if not as_json:
            click.echo(f"picture: {printable(str(picture))}")
    return 0 if report.verdict is Verdict.LINEARIZABLE else 1


def _print(
    report: Report,
    seconds: float,
    time_limit_s: float,
    explanation: Explanation | None,
) -> None:
    keys = f"{report.keys} key{'' if report.keys == 1 else 's'}"
    click.echo(
        f"{report.verdict.value}: {report.operations} operations on {keys},"
        f" {report.unknown} of unknown outcome, checked in {seconds:.2f} s"
    )
    if report.verdict is Verdict.UNDECIDED:
        click.echo(
            f"{len(report.undecided)} of the keys were not done within {time_limit_s:g} s,"
            " or within the memory allowed: try a longer --time-limit"
        )
    if explanation is not None:
        click.echo(f"\n{render_text(explanation)}", nl=False)
    elif report.verdict is Verdict.NOT_LINEARIZABLE:
        click.echo(
            f'key "{printable(report.offending or "")}" shows it, but no short reason was found'
            f" within {_EXPLANATION_LIMIT_S:g} s"
        )


def _as_json(report: Report, seconds: float, explanation: Explanation | None) -> dict[str, object]:
    fields: dict[str, object] = {
        "verdict": report.verdict.value,
        "operations": report.operations,
        "keys": report.keys,
        "unknown": report.unknown,
        "seconds": round(seconds, 3),
        "offending": report.offending,
        "undecided": list(report.undecided),
    }
    if explanation is not None:
        fields["explanation"] = render_text(explanation)
    return fields
