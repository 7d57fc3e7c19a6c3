"""The workload that a Celeriac worker loads."""

from celeriac import Queue, Workload

workload = Workload(
    name="bench",
    tasks=["benchmarks.contestants.workers.tasks"],
    queues=[Queue("bench"), Queue("bench_many"), Queue("bench_some"), Queue("bench_few")],
)
