"""``consensusllm verify``: whether an exported conversation is what was exported, offline."""

from __future__ import annotations

import json
from pathlib import Path

import click

from consensusllm.client import Altered, Export, InvalidRequest, NotExtended, found_at, read_export

from .repl.render import plural
from .repl.sanitise import one_line

_FAILED, _MISUSE = 1, 2


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--head", metavar="HEX", help="A head that was noted earlier: must be one it had.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def verify(file: Path, head: str | None, as_json: bool) -> int:
    """Check the hash chain of the conversation that was exported to FILE.

    Exit status: 0 every turn fits, 1 some turn does not, or the head was never its, 2 misuse or a
    malformed FILE.
    """
    name = one_line(str(file))
    try:
        found = _read(file)
        since = None if head is None else found_at(found.conversation, head)
    except (Altered, NotExtended) as error:
        return _refused(name, one_line(str(error)), as_json, _FAILED)
    except InvalidRequest as error:
        return _refused(name, one_line(str(error)), as_json, _MISUSE)
    except OSError as error:
        return _refused(name, str(error.strerror), as_json, _MISUSE)
    conversation = found.conversation
    if as_json:
        fields = {
            "conversation": conversation.conversation,
            "revision": conversation.revision,
            "turns": len(conversation.turns),
            "head": found.head,
            "had_head_at": since,
        }
        click.echo(json.dumps(fields))
        return 0
    click.echo(
        f"{one_line(conversation.conversation)}: the links of "
        f"{plural(len(conversation.turns), 'turn')} fit; "
        f"head at revision {conversation.revision}: {found.head}"
    )
    if since is not None:
        first, last = since
        when = f"revision {first}" if first == last else f"revisions {first} to {last}"
        click.echo(f"it had the head that was noted at {when}: what stood then still stands")
    return 0


def _refused(name: str, why: str, as_json: bool, status: int) -> int:
    click.echo(f"verify: {name}: {why}", err=True)
    if as_json:
        click.echo(json.dumps({"file": name, "error": why}))
    return status


def _read(file: Path) -> Export:
    """Raises InvalidRequest, Altered, OSError."""
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        raise InvalidRequest("is not a JSON document: export makes one") from None
    found = read_export(document)
    if found.links is None:
        raise InvalidRequest("has no links to verify it by: export it again")
    return found
