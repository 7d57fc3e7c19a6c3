"""`celeriac queues`: look at queues, pause, resume, purge and scale them, through the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.settings import load_settings

queues = typer.Typer(
    help="Look at queues, pause, resume, purge and scale them.", no_args_is_help=True, add_completion=False
)

Queue = Annotated[str, typer.Argument(help="The queue's name.")]

_COLUMNS = ("queue", "ready", "in_flight", "delayed", "dead", "oldest_seconds", "workers", "slots", "paused")


def _client(data_dir: Path | None) -> Client:
    return Client.from_settings(load_settings(data_dir))


def _show(found: list[dict[str, Any]]) -> None:
    print_table(_COLUMNS, [[_text(queue[column]) for column in _COLUMNS] for queue in found])


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON
    return value if isinstance(value, str) else json.dumps(value)


def _show_one(queue: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(queue)
    else:
        _show([queue])


@queues.command("list")
def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all queues with what is in them and who works on them."""
    with _client(data_dir) as client:
        found = client.queues()["items"]
    if as_json:
        print_json(found)
    else:
        _show(found)


@queues.command()
def show(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what is in a queue and who works on it."""
    with _client(data_dir) as client:
        _show_one(client.queue(queue), as_json=as_json)


@queues.command()
def pause(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let workers take nothing more from a queue; what runs goes on, and submits are accepted."""
    with _client(data_dir) as client:
        _show_one(client.pause_queue(queue), as_json=as_json)


@queues.command()
def resume(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let workers take from a paused queue again."""
    with _client(data_dir) as client:
        _show_one(client.resume_queue(queue), as_json=as_json)


@queues.command()
def purge(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Drop what waits in a queue, delayed tasks included, and cancel its tasks; what workers hold stays."""
    with _client(data_dir) as client:
        purged = client.purge_queue(queue)
    if as_json:
        print_json({"purged": purged})
    else:
        typer.echo(f"{purged} purged")


@queues.command()
def scale(
    queue: Queue,
    replicas: Annotated[int, typer.Argument(min=0, help="How many worker pods; 0 for none.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask for a number of worker pods of a queue, where the platform runs in a cluster."""
    with _client(data_dir) as client:
        scaled = client.scale_queue(queue, replicas)
    if as_json:
        print_json(scaled)
    else:
        typer.echo(f"{scaled['deployment']}: {scaled['replicas_before']} -> {scaled['replicas']} replicas")
