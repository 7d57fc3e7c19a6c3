"""`celeriac status`: is the platform well?"""

from __future__ import annotations

import typer

from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.settings import load_settings


def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what the API's /health says; exits with 1 unless it is healthy."""
    with Client.from_settings(load_settings(data_dir)) as client:
        health = client.health()
    if as_json:
        print_json(health)
    else:
        checks = health["checks"]
        workers = checks.pop("workers", {})
        print_table(["check", "state"], [("status", health["status"]), *checks.items()])
        print_table(["queue", "workers"], list(workers.items()))
    raise typer.Exit(0 if health["status"] == "healthy" else 1)
