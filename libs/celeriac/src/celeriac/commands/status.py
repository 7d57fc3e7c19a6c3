"""`celeriac status`: is the platform well?"""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.commands.api import client_of, plain, show
from celeriac.commands.options import DataDir, Json, print_json, print_table


def status(
    live: Annotated[bool, typer.Option("--live", help="Only ask whether the API's process answers.")] = False,
    ready: Annotated[bool, typer.Option("--ready", help="Only ask whether the API takes requests.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what the API's /health says; exits with 1 unless it is healthy."""
    if live and ready:
        msg = "--live and --ready are two questions; ask one"
        raise typer.BadParameter(msg)
    with client_of(data_dir) as client:
        if live:
            show(client.live(), as_json=as_json)
            return
        if ready:
            show(client.ready(), as_json=as_json)
            return
        health = client.health()
    if as_json:
        print_json(plain(health))
    else:
        checks = plain(health.checks)
        workers = checks.pop("workers", {})
        print_table(["check", "state"], [("status", health.status), *checks.items()])
        print_table(["queue", "workers"], list(workers.items()))
    raise typer.Exit(0 if health.status == "healthy" else 1)
