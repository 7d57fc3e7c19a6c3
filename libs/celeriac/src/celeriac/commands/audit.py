"""`celeriac audit`: who changed what, through the API."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.client import calls
from celeriac.commands.api import PAGE, client_of, first, show_list
from celeriac.commands.options import DataDir, Json

_COLUMNS = ("id", "at", "who", "what", "target", "status", "client")


def audit(
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most, the newest first; default: all.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List administrative acts, the newest first: changes below /admin, and tokens made and revoked."""
    with client_of(data_dir) as client:
        acts = client.each(calls.list_acts(limit=min(limit or PAGE, PAGE)))
        show_list(_COLUMNS, first(acts, limit), as_json=as_json)
