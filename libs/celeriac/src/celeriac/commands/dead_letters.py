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


def _add_command(
    name: str, does: str, did: str, one: Callable[[Client, str], object], matching: Callable[..., int]
) -> None:
    """Add a command that does something with each dead letter that is named, or with all that match."""

    @dead_letters.command(name, help=f"{does}: those named, or with --all those that the options leave.")
    def command(
        tags: Tags = None,
        everything: All = False,
        queue: Queue = None,
        task: Task = None,
        reason: Reason = None,
        data_dir: DataDir = None,
        as_json: Json = False,
    ) -> None:
        _check(tags, everything, queue, task, reason)
        with _client(data_dir) as client:
            if tags:
                for tag in tags:
                    one(client, tag)
                count = len(tags)
            else:
                count = matching(client, queue=queue, task=task, reason=reason)
        if as_json:
            print_json({did: count})
        else:
            typer.echo(f"{count} {did}")


def _check(tags: list[str] | None, everything: bool, *options: str | None) -> None:
    if bool(tags) == everything:
        msg = "name the tags, or give --all, but not both"
        raise typer.BadParameter(msg)
    if tags and any(option is not None for option in options):
        msg = "--queue, --task and --reason choose among --all; a tag needs none"
        raise typer.BadParameter(msg)


_add_command(
    "replay",
    "Put dead letters back into their queues",
    "replayed",
    Client.replay_dead_letter,
    Client.replay_dead_letters,
)
_add_command("drop", "Forget dead letters", "dropped", Client.drop_dead_letter, Client.drop_dead_letters)
