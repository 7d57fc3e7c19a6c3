"""Data synchronisation: files of sales platforms, uploaded over HTTP, become rows in the database."""

from celeriac import Queue, Workload

#: Where files are synced.
SYNC_QUEUE = "data_sync"
#: Where batches and periodic syncs run, which only start and watch others.
SCHEDULED_QUEUE = "scheduled"

workload = Workload(
    name="data_sync",
    queues=[Queue(SYNC_QUEUE, concurrency=2), Queue(SCHEDULED_QUEUE, concurrency=1)],
    routes={"data_sync.sync_batch": SCHEDULED_QUEUE, "data_sync.sync_left_behind": SCHEDULED_QUEUE},
    tasks=["workloads.data_sync.tasks"],
    routers=["workloads.data_sync.routes"],
    schedule="workloads.data_sync.schedule",
    models="workloads.data_sync.models",
    migrations="workloads.data_sync.migrations",
)
