"""What the API measures of itself, and what it reads of the platform when it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac.platform import CeleriacApp
from celeriac_api.platform_state import PlatformState, QueueState

REGISTRY = CollectorRegistry()

#: Any other, of which a client may invent as many as it likes, counts as `other`.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUEST_SECONDS = Histogram(
    "celeriac_http_request_seconds",
    "Time to answer a request that does not wait for tasks.",
    ("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)

LISTENERS = Gauge("celeriac_http_listeners", "Requests that follow tasks at present.", registry=REGISTRY)


class RequestMetrics:
    """ASGI middleware that times requests by their route, never by their path, of which there is no end.

    Those that follow tasks take as long as these do, and are left out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if not scope.get("state", {}).get("listens"):
                route = getattr(scope.get("route"), "path", "unmatched")
                method = scope["method"] if scope["method"] in METHODS else "other"
                REQUEST_SECONDS.labels(method, route, status).observe(time.perf_counter() - started)


class PlatformCollector(Collector):
    """Queues and workers, read from Redis at each scrape."""

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Read queues and workers.

        Raises:
            RedisError: Redis cannot be reached; then the series are absent rather than 0.
        """
        state = PlatformState.read(self._app)
        return [
            _by_queue("celeriac_queue_ready", "Messages that are due and wait.", state, lambda queue: queue.ready),
            _by_queue(
                "celeriac_queue_in_flight", "Messages that a worker holds.", state, lambda queue: queue.in_flight
            ),
            _by_queue(
                "celeriac_queue_delayed", "Messages that wait until they are due.", state, lambda queue: queue.delayed
            ),
            _by_queue("celeriac_dead_letters", "Messages that were given up.", state, lambda queue: queue.dead),
            _by_queue(
                "celeriac_queue_oldest_seconds", "Age of the next message.", state, lambda queue: queue.oldest_seconds
            ),
            _by_queue(
                "celeriac_queue_paused", "1 while nothing is claimed from it.", state, lambda queue: queue.paused
            ),
            _by_queue("celeriac_workers", "Workers that consume the queue.", state, lambda queue: queue.workers),
            _by_queue("celeriac_worker_slots", "Tasks those can run at a time.", state, lambda queue: queue.slots),
        ]


def _by_queue(name: str, what: str, state: PlatformState, value: Callable[[QueueState], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=["queue"])
    for queue in state.queues:
        family.add_metric([queue.name], value(queue))
    return family
