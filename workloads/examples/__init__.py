"""Four small tasks to try the platform with; the tutorial uses them."""

from celeriac import Queue, Workload

workload = Workload(name="examples", queues=[Queue("default", concurrency=2)], tasks=["workloads.examples.tasks"])
