"""What a worker measures. Its processes share files, which the supervising one reads when it is asked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

TASKS = Counter(
    "celeriac_tasks",
    "Tasks that came to an end here; a try that is followed by another ends as RETRY.",
    ("task", "queue", "state"),
)
WAIT_SECONDS = Histogram(
    "celeriac_task_wait_seconds", "From submit, or from when it was due, to start.", ("task", "queue"), buckets=_SECONDS
)
RUN_SECONDS = Histogram("celeriac_task_run_seconds", "From start to end.", ("task", "queue"), buckets=_SECONDS)
LEASE_EXPIRATIONS = Counter(
    "celeriac_lease_expirations", "Leases found ended, whose message was returned or given up.", ("queue",)
)


def exposition() -> bytes:
    """All metrics of this worker's processes in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
