"""The workload of the celeriac column: the suite's tasks on the queue that the suite expects."""

from __future__ import annotations

from celeriac import Queue, Workload

workload = Workload(
    name="celery_suite",
    queues=[Queue("celery", concurrency=1)],
    tasks=["t.integration.tasks", "tests.celery_suite.class_tasks"],
)
