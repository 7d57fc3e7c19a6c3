"""A workload that the repository's own images do not have."""

from celeriac import Queue, Workload

workload = Workload(name="my_workload", queues=[Queue("my_queue", concurrency=1)], tasks=["my_workload.tasks"])
