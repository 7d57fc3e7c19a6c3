"""`celeriac workers`: who works, through the API."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.client import calls
from celeriac.commands.api import PAGE, client_of, show_list
from celeriac.commands.options import DataDir, Json

_COLUMNS = ("name", "queues", "busy", "slots", "state", "pool", "host", "version", "started_at", "last_heartbeat_at")


def workers(
    queue: Annotated[str | None, typer.Option(help="Only those that consume this queue.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the workers that live, with what they consume and how busy they are."""
    with client_of(data_dir) as client:
        show_list(_COLUMNS, client.each(calls.list_workers(queue=queue, limit=PAGE)), as_json=as_json)
