"""`celeriac workers`: who works, through the API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.settings import load_settings

_COLUMNS = ("name", "queues", "busy", "slots", "state", "pool", "host", "version", "started_at", "last_heartbeat_at")

#: Workers of a page, as many as the API gives.
_PAGE = 1000


def workers(
    queue: Annotated[str | None, typer.Option(help="Only those that consume this queue.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the workers that live, with what they consume and how busy they are."""
    found: list[dict[str, Any]] = []
    cursor = None
    with Client.from_settings(load_settings(data_dir)) as client:
        while True:
            page = client.workers(queue=queue, limit=_PAGE, cursor=cursor)
            found += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                break
    if as_json:
        print_json(found)
    else:
        shown = [worker | {"queues": " ".join(worker["queues"])} for worker in found]
        print_table(_COLUMNS, [[worker[column] for column in _COLUMNS] for worker in shown])
