"""Stock Celery's app: `celery -A benchmarks.contestants.workers.celery_app worker`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import celery

#: The Redis URL.
URL = "BENCH_CELERY_URL"

#: Celery's settings, JSON.
SETTINGS = "BENCH_CELERY_SETTINGS"


def make_app(redis_url: str, settings: Mapping[str, Any]) -> celery.Celery:
    """Make the app, for workers and publishers alike.

    Args:
        redis_url: broker and results.
        settings: Celery's settings.
    """
    app = celery.Celery("bench", broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.update(settings)
    app.conf.update(
        include=["benchmarks.contestants.workers.tasks"],
        task_default_queue="bench",
        broker_connection_retry_on_startup=True,
        # As Celeriac's workers, which configure logging themselves and leave standard output alone.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    app.loader.import_default_modules()
    app.finalize(auto=True)
    return app


def __getattr__(name: str) -> celery.Celery:
    # Made when `celery -A` asks, for whoever publishes has no such environment.
    if name == "app":
        app = make_app(os.environ[URL], json.loads(os.environ[SETTINGS]))
        globals()["app"] = app
        return app
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
