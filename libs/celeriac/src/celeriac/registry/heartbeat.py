"""The part of a worker that writes its record and renews its messages."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery import bootsteps
from celery.worker import state
from redis.exceptions import RedisError

from celeriac.broker.renewal import Renewal
from celeriac.registry.directory import WorkerRecord

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)


class Heartbeat(bootsteps.StartStopStep):
    """Writes the worker's record every few seconds, in a thread, from its start until it is asked to stop."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:  # noqa: ANN401 - celery.apps.worker.Worker
        super().__init__(worker, **options)
        self._app = cast("CeleriacApp", worker.app)
        self._stopping = threading.Event()
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:  # noqa: ANN401
        """Start both threads."""
        self._thread = threading.Thread(target=self._run, args=(worker,), name="heartbeat", daemon=True)
        self._thread.start()
        Renewal(self._app.redis, "unacked_index", _delivered).start()

    def stop(self, worker: Any) -> None:  # noqa: ANN401
        """Take the worker off the registry; running tasks may still end, and stay renewed."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        try:
            self._app.registry.remove(worker.hostname)
        except RedisError as error:
            log.warning("registry_not_cleared", worker=worker.hostname, error=str(error))

    def terminate(self, worker: Any) -> None:  # noqa: ANN401
        """The same for a cold shutdown."""
        self.stop(worker)

    def _run(self, worker: Any) -> None:  # noqa: ANN401
        interval = self._app.settings.registry.heartbeat_seconds
        while not self._stopping.wait(self._write(worker) or interval):
            pass

    def _write(self, worker: Any) -> float | None:  # noqa: ANN401
        queues = consumed_queues(worker)
        if not queues:
            return 0.2  # it has no connection, or not yet: it does not count, and is asked again soon
        record = WorkerRecord(
            name=worker.hostname,
            queues=queues,
            slots=worker.concurrency,
            busy=len(state.active_requests),
            version=version("celeriac"),
            pid=os.getpid(),
            started_at=self._started_at,
        )
        try:
            self._app.registry.write(record)
        except RedisError as error:
            log.warning("heartbeat_failed", worker=worker.hostname, error=str(error))
        return None


def consumed_queues(worker: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The queues that a worker consumes now; none while it has no connection."""
    consumer = getattr(getattr(worker, "consumer", None), "task_consumer", None)
    return tuple(sorted(queue.name for queue in consumer.queues)) if consumer is not None else ()


def _delivered() -> set[str]:
    """The tags of all messages that this worker has been given and has not acknowledged: waiting, reserved, running."""
    requests = [*state.requests.values(), *state.active_requests]
    return {request.message.delivery_tag for request in requests}
