"""`celeriac dead-letters`: look at messages that were given up, replay and drop them, through the API."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.client import calls
from celeriac.commands.api import PAGE, client_of, first, show, show_list
from celeriac.commands.options import DataDir, Json, print_json

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
    asked = calls.list_dead_letters(queue=queue, task=task, reason=reason, limit=min(limit or PAGE, PAGE))
    with client_of(data_dir) as client:
        show_list(_COLUMNS, first(client.each(asked), limit), as_json=as_json)


@dead_letters.command("show")
def show_one(tag: Tag, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a dead letter with its message."""
    with client_of(data_dir) as client:
        show(client.show_dead_letter(tag), as_json=as_json)


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
    with client_of(data_dir) as client:
        for tag in tags or ():
            client.replay_dead_letter(tag)
        count = len(tags or ()) or client.replay_dead_letters(queue=queue, task=task, reason=reason).replayed
    _tell("replayed", count, as_json=as_json)


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
    with client_of(data_dir) as client:
        for tag in tags or ():
            client.drop_dead_letter(tag)
        count = len(tags or ()) or client.drop_dead_letters(queue=queue, task=task, reason=reason).dropped
    _tell("dropped", count, as_json=as_json)


def _tell(what: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        typer.echo(f"{count} {what}")


def _check(tags: list[str] | None, everything: bool, *options: str | None) -> None:
    if bool(tags) == everything:
        msg = "name the tags, or give --all, but not both"
        raise typer.BadParameter(msg)
    if tags and any(option is not None for option in options):
        msg = "--queue, --task and --reason choose among --all; a tag needs none"
        raise typer.BadParameter(msg)
