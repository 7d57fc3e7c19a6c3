"""The workload of the trials: `CELERIAC_WORKLOADS=tests.soak.workload`, with the checkout on `PYTHONPATH`."""

from __future__ import annotations

from celeriac import Queue, Workload

QUEUES = ("soak_a", "soak_b", "soak_c")

workload = Workload(name="soak", queues=[Queue(name) for name in QUEUES], tasks=["tests.soak.tasks"])
