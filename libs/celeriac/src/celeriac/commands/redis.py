"""`celeriac redis`: which Redis there is and how full, through the API."""

from __future__ import annotations

from celeriac.commands.api import client_of, show
from celeriac.commands.options import DataDir, Json


def redis(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show which Redis there is, and how full."""
    with client_of(data_dir) as client:
        show(client.show_redis(), as_json=as_json)
