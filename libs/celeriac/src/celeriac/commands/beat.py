"""`celeriac beat`: sends the periodic tasks of all workloads."""

from __future__ import annotations

import structlog
from celery import signals

from celeriac.app import create_app, load_schedule
from celeriac.commands.options import DataDir
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs

log = structlog.get_logger(__name__)


def beat(data_dir: DataDir = None) -> None:
    """Run Beat until SIGTERM or Ctrl-C."""
    settings = load_settings(data_dir)
    configure_logs(settings.log, "beat")
    app = create_app(settings)
    app.conf.beat_schedule = load_schedule(app)

    @signals.setup_logging.connect(weak=False)
    def keep_ours(**_: object) -> None:
        """Celery would configure logging itself."""

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log.info("beat_started", entries=len(app.conf.beat_schedule), timezone=settings.timezone)
    app.Beat(quiet=True).run()
