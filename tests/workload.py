"""A workload whose tasks show what a worker does to them; see `tests.workload_tasks`."""

from __future__ import annotations

from celeriac import Queue, Workload

workload = Workload(name="trial", queues=[Queue("trial"), Queue("other")], tasks=["tests.workload_tasks"])
