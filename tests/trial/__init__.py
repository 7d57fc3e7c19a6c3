"""A workload for tests: `CELERIAC_WORKLOADS=tests.trial`, with the checkout on `PYTHONPATH`."""

from __future__ import annotations

from celeriac import Queue, Workload

QUEUE = "trial"

#: Names the file in which tasks write what they have done.
LEDGER_VARIABLE = "TRIAL_LEDGER"

workload = Workload(name="trial", queues=[Queue(QUEUE)], tasks=["tests.trial.tasks"])
