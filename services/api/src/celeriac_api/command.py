"""`celeriac api`: serves the HTTP API."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Annotated

import typer
import uvicorn

from celeriac.app import create_app
from celeriac.broker.eviction import refuse_eviction
from celeriac.broker.keeper import Keeper
from celeriac.commands.options import DataDir
from celeriac.process import allow_many_connections
from celeriac.results import FileSweep
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs
from celeriac_api.app import create_api
from celeriac_api.server import Server


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C, which lets open requests end."""
    settings = load_settings(data_dir)
    configure_logs(settings.log, "api")
    app = create_app(settings)
    refuse_eviction(app.redis)
    # Queues without workers are tended, too.
    Keeper(app.endpoint, app.keys, chore=app.sweep).start()
    FileSweep(app.result_files).start()
    config = uvicorn.Config(
        create_api(app),
        host=host or settings.api.host,
        port=settings.api.port if port is None else port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than clients and proxies keep an idle connection, which may else send a request into its end.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )
    allow_many_connections()
    server = Server(config, app)
    # What was loaded stays. Looking through all of it again and again would hold up requests, 0.1 s each time.
    gc.collect()
    gc.freeze()
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(1)
