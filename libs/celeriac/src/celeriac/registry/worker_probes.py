"""The part of a worker that answers its probes."""

from __future__ import annotations

from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from celery import bootsteps

from celeriac.registry.heartbeat import consumed_queues
from celeriac.registry.probe_server import Probes
from celeriac.registry.pulse import Pulse

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

#: How often the consumer's loop shows that it turns, seconds.
PULSE_SECONDS = 5


class PulseStep(bootsteps.StartStopStep):
    """Beats the worker's pulse from the consumer's own loop, anew after each connection."""

    requires = ("celery.worker.consumer:Tasks",)

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Begin to beat; with the solo pool the loop stands still while a task runs, and says nothing."""
        if consumer.pool.__module__.endswith("solo"):
            return
        pulse: Pulse = consumer.controller.pulse
        pulse.beat()
        consumer.timer.call_repeatedly(PULSE_SECONDS, pulse.beat)


class WorkerProbes(bootsteps.StartStopStep):
    """Serves `/health/live` and `/health/ready` from the worker's main process."""

    def __init__(self, worker: Any, **options: Any) -> None:  # noqa: ANN401 - celery.apps.worker.Worker
        super().__init__(worker, **options)
        worker.pulse = Pulse()
        self._server: ThreadingHTTPServer | None = None

    def start(self, worker: Any) -> None:  # noqa: ANN401
        """Start the server."""
        app = cast("CeleriacApp", worker.app)

        def not_ready() -> str | None:
            app.probe_redis.ping()
            missing = set(worker.app.amqp.queues.consume_from) - set(consumed_queues(worker))
            return f"does not consume {', '.join(sorted(missing))}" if missing else None

        self._server = Probes(app, worker.pulse, not_ready).serve()

    def stop(self, worker: Any) -> None:  # noqa: ANN401, ARG002
        """Stop listening: a worker that shuts down is neither ready nor stuck."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
