"""The worker: Celery's own, under a small supervising process that keeps its leases and answers for it.

    celeriac worker  ── supervisor: keeper, registry, probes, metrics, signals; runs no task
      └─ Celery's main process: claims, dispatches, acknowledges
           └─ its pool

What the two share is a `LeaseTable`. The supervisor renews whatever its worker holds for as long as that lives,
however busy it is, and returns it at once when it does not.
"""
