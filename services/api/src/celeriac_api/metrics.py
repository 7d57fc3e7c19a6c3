"""What the API measures of itself, and what it reads of the platform when it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac.platform import CeleriacApp
from celeriac_api.platform_state import PlatformState

REGISTRY = CollectorRegistry()

#: Any other, of which a client may invent as many as it likes, counts as `other`.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUEST_SECONDS = Histogram(
    "celeriac_http_request_seconds",
    "Time to answer a request.",
    ("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)


class RequestMetrics:
    """ASGI middleware that times requests by their route, never by their path, of which there is no end."""

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
        ready = GaugeMetricFamily("celeriac_queue_ready", "Messages that are due and wait.", labels=["queue"])
        oldest = GaugeMetricFamily("celeriac_queue_oldest_seconds", "Age of the next message.", labels=["queue"])
        workers = GaugeMetricFamily("celeriac_workers", "Workers that consume the queue.", labels=["queue"])
        slots = GaugeMetricFamily("celeriac_worker_slots", "Tasks those can run at a time.", labels=["queue"])
        for queue in state.queues:
            ready.add_metric([queue.name], queue.ready)
            oldest.add_metric([queue.name], queue.oldest_seconds)
            workers.add_metric([queue.name], queue.workers)
            slots.add_metric([queue.name], queue.slots)
        return [ready, oldest, workers, slots]
