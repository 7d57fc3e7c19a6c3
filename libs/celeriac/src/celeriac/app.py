"""The Celery app, configured: what every process of the platform starts from.

    app = create_app()          # settings from the environment, workloads from CELERIAC_WORKLOADS

`celery -A celeriac.app inspect …` finds it as `celeriac.app.app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import signals
from kombu import Queue as KombuQueue

from celeriac.broker import broker_url
from celeriac.broker.leases import POLICY
from celeriac.errors import ConfigurationError
from celeriac.execution.vitals import Vitals
from celeriac.platform import CeleriacApp
from celeriac.results.deaths import Deaths, end_task
from celeriac.settings import Settings, load_settings
from celeriac.workload import DEFAULT_QUEUE, load_workloads, queues_of, rate_limits_of


def create_app(settings: Settings | None = None) -> CeleriacApp:
    """Make the configured app.

    Args:
        settings: the settings; None to read them from the environment.

    Raises:
        ConfigurationError: a setting or a workload is wrong.
    """
    settings = settings or load_settings()
    app = CeleriacApp("celeriac")
    app.settings = settings
    app.workloads = load_workloads(settings.workloads)
    app.queues = queues_of(app.workloads, settings.queues)
    app.config_from_object(_configuration(app))
    app.steps["consumer"].add(Vitals)
    POLICY.limits = {queue.name: queue.max_deliveries for queue in app.queues}
    POLICY.listener = Deaths(lambda notice: end_task(app, notice))
    signals.worker_process_init.connect(lambda **_: app.database.dispose(), weak=False)
    app.set_default()
    app.load_tasks()
    app.rate_limits = rate_limits_of(app.workloads, settings.rate_limits, app.task_names)
    return app


def _configuration(app: CeleriacApp) -> dict[str, Any]:
    settings = app.settings
    redis_url = settings.redis_url.get_secret_value()
    names = [queue.name for queue in app.queues]
    return {
        "broker_url": broker_url(redis_url),
        "broker_transport_options": {
            "global_keyprefix": settings.redis.key_prefix,
            "marks_starts": True,
            "ended_expires_seconds": settings.results.expires_seconds,
            # Also how long a connection may be dead without a word before a waiting channel notices.
            "health_check_interval": 5,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # What Redis refuses for a while (too few replicas, a full disk) does not end a worker.
        "broker_channel_error_retry": True,
        "result_backend": "celeriac.results.backend:Backend",
        "result_expires": settings.results.expires_seconds,
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 2,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "timezone": settings.timezone,
        "task_queues": [KombuQueue(name) for name in names],
        "task_default_queue": DEFAULT_QUEUE if DEFAULT_QUEUE in names else names[0],
        "task_create_missing_queues": False,
        "task_routes": (app.route,),
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_soft_time_limit": settings.worker.soft_time_limit,
        "task_time_limit": settings.worker.time_limit,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2},
        "worker_consumer": "celeriac.execution.consumer:Consumer",
        "worker_prefetch_multiplier": settings.worker.prefetch_multiplier,
        "worker_max_tasks_per_child": settings.worker.max_tasks_per_child,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_schedule_filename": str(settings.data_dir / "beat-schedule"),
    }


def load_schedule(app: CeleriacApp) -> dict[str, Mapping[str, Any]]:
    """Collect the periodic entries of all workloads, as Celery's `beat_schedule`.

    Raises:
        ConfigurationError: two workloads use one name, or an entry names a task that does not exist.
    """
    schedule: dict[str, Mapping[str, Any]] = {}
    for workload in app.workloads:
        for name, entry in workload.schedule_entries().items():
            if name in schedule:
                msg = f"schedule entry {name!r} is declared twice; workload {workload.name} is the second"
                raise ConfigurationError(msg)
            if entry["task"] not in app.tasks:
                msg = f"schedule entry {name!r} of workload {workload.name}: no such task {entry['task']!r}"
                raise ConfigurationError(msg)
            schedule[name] = entry
    return schedule


def __getattr__(name: str) -> CeleriacApp:
    # `celery -A celeriac.app` looks for an attribute `app`; made on demand, so that importing has no effect.
    if name == "app":
        app = create_app()
        globals()["app"] = app
        return app
    msg = f"module 'celeriac.app' has no attribute {name!r}"
    raise AttributeError(msg)
