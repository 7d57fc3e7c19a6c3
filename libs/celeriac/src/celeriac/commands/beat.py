"""`celeriac beat`: sends the periodic tasks of all workloads."""

from __future__ import annotations

import time
from typing import Any, cast

import structlog
from celery import signals
from celery.beat import PersistentScheduler

from celeriac.app import create_app, load_schedule
from celeriac.broker.eviction import refuse_eviction
from celeriac.broker.keeper import Keeper
from celeriac.commands.options import DataDir
from celeriac.registry.probe_server import Probes
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs

log = structlog.get_logger(__name__)

#: Beat looks at its schedule at least so often, seconds; its liveness probe counts on it.
MAX_INTERVAL_SECONDS = 5


def beat(data_dir: DataDir = None) -> None:
    """Run Beat until SIGTERM or Ctrl-C."""
    settings = load_settings(data_dir)
    configure_logs(settings.log, "beat")
    app = create_app(settings)
    refuse_eviction(app.redis)
    app.conf.beat_schedule = load_schedule(app)

    @signals.setup_logging.connect(weak=False)
    def keep_ours(**_: object) -> None:
        """Celery would configure logging itself."""

    turned_at: float | None = None

    class Scheduler(PersistentScheduler):
        def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's signature
            nonlocal turned_at
            turned_at = time.monotonic()
            return super().tick(*args, **kwargs)

    # While Redis is away Beat stays ready: it goes on by itself when Redis is back.
    Probes(
        app,
        silent_seconds=lambda: 0.0 if turned_at is None else time.monotonic() - turned_at,
        not_ready=lambda: "it has not begun to schedule" if turned_at is None else None,
    ).serve()
    Keeper(app.endpoint, app.keys, chore=app.sweep).start()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log.info("beat_started", entries=len(app.conf.beat_schedule), timezone=settings.timezone)
    # The stubs know only the scheduler's import path; Celery takes the class as well.
    app.Beat(quiet=True, scheduler=cast("Any", Scheduler), max_interval=MAX_INTERVAL_SECONDS).run()
