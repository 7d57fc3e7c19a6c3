"""`celeriac dead-letters`: look at messages that were given up, replay and drop them, through the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.settings import load_settings

dead_letters = typer.Typer(
    help="Look at messages that were given up, replay and drop them.", no_args_is_help=True, add_completion=False
)

Tag = Annotated[str, typer.Argument(help="What `list` shows as `tag`.")]
Tags = Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="What `list` shows as `tag`.")]
All = Annotated[bool, typer.Option("--all", help="All that the other options leave.")]
Queue = Annotated[str | None, typer.Option(help="Only those of this queue.")]
Task = Annotated[str | None, typer.Option(help="Only those of tasks of this name.")]
Reason = Annotated[str | None, typer.Option(help="Only those whose reason contains this.")]

_COLUMNS = ("tag", "queue", "task", "deliveries", "died_at", "reason")

#: Entries of a page, as many as the API gives.
_PAGE = 1000


def _client(data_dir: Path | None) -> Client:
    return Client.from_settings(load_settings(data_dir))


@dead_letters.command("list")
def list_(
    queue: Queue = None,
    task: Task = None,
    reason: Reason = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most, the newest first; default: all.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    letters: list[dict[str, Any]] = []
    cursor = None
    with _client(data_dir) as client:
        while limit is None or len(letters) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(letters))
            page = client.dead_letters(queue=queue, task=task, reason=reason, limit=size, cursor=cursor)
            letters += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                break
    if as_json:
        print_json(letters)
    else:
        print_table(_COLUMNS, [[letter[column] for column in _COLUMNS] for letter in letters])


@dead_letters.command()
def show(tag: Tag, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a dead letter with its message."""
    with _client(data_dir) as client:
        letter = client.dead_letter(tag)
    if as_json:
        print_json(letter)
    else:
        print_table(["field", "value"], [(key, json.dumps(value)) for key, value in letter.items()])


@dead_letters.command()
def replay(
    tags: Tags = None,
    everything: All = False,
    queue: Queue = None,
    task: Task = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back into their queues: those named, or with --all those that the options leave."""
    _check(tags, everything, queue, task, reason)
    with _client(data_dir) as client:
        if everything:
            count = client.replay_dead_letters(queue=queue, task=task, reason=reason)
        else:
            count = _each(client.replay_dead_letter, tags or [])
    _report("replayed", count, as_json=as_json)


@dead_letters.command()
def drop(
    tags: Tags = None,
    everything: All = False,
    queue: Queue = None,
    task: Task = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Forget dead letters: those named, or with --all those that the options leave."""
    _check(tags, everything, queue, task, reason)
    with _client(data_dir) as client:
        if everything:
            count = client.drop_dead_letters(queue=queue, task=task, reason=reason)
        else:
            count = _each(client.drop_dead_letter, tags or [])
    _report("dropped", count, as_json=as_json)


def _check(tags: list[str] | None, everything: bool, *options: str | None) -> None:
    if bool(tags) == everything:
        msg = "name the tags, or give --all, but not both"
        raise typer.BadParameter(msg)
    if tags and any(option is not None for option in options):
        msg = "--queue, --task and --reason choose among --all; a tag needs none"
        raise typer.BadParameter(msg)


def _each(act: Callable[[str], object], tags: list[str]) -> int:
    for tag in tags:
        act(tag)
    return len(tags)


def _report(word: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({word: count})
    else:
        typer.echo(f"{count} {word}")
