"""`celeriac queues`: look at queues, pause, resume, purge and scale them, through the API."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.commands.api import client_of, plain, show_list
from celeriac.commands.options import DataDir, Json, print_json
from celeriac.contract.queues import QueueView

queues = typer.Typer(
    help="Look at queues, pause, resume, purge and scale them.", no_args_is_help=True, add_completion=False
)

Queue = Annotated[str, typer.Argument(help="The queue's name.")]

_COLUMNS = ("queue", "ready", "in_flight", "delayed", "dead", "oldest_seconds", "workers", "slots", "paused")


def _show(queue: QueueView, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(queue))
    else:
        show_list(_COLUMNS, [queue], as_json=False)


@queues.command("list")
def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all queues with what is in them and who works on them."""
    with client_of(data_dir) as client:
        show_list(_COLUMNS, client.list_queues().items, as_json=as_json)


@queues.command()
def show(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what is in a queue and who works on it."""
    with client_of(data_dir) as client:
        _show(client.show_queue(queue), as_json=as_json)


@queues.command()
def pause(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let workers take nothing more from a queue; what runs goes on, and submits are accepted."""
    with client_of(data_dir) as client:
        _show(client.pause_queue(queue), as_json=as_json)


@queues.command()
def resume(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let workers take from a paused queue again."""
    with client_of(data_dir) as client:
        _show(client.resume_queue(queue), as_json=as_json)


@queues.command()
def purge(queue: Queue, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Drop what waits in a queue, delayed tasks included, and cancel its tasks; what workers hold stays."""
    with client_of(data_dir) as client:
        purged = client.purge_queue(queue)
    if as_json:
        print_json(plain(purged))
    else:
        typer.echo(f"{purged.purged} purged")


@queues.command()
def scale(
    queue: Queue,
    replicas: Annotated[int, typer.Argument(min=0, help="How many worker pods; 0 for none.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask for a number of worker pods of a queue, where the platform runs in a cluster."""
    with client_of(data_dir) as client:
        scaled = client.scale_queue(queue, replicas)
    if as_json:
        print_json(plain(scaled))
    else:
        typer.echo(f"{scaled.deployment}: {scaled.replicas_before} -> {scaled.replicas} replicas")
