"""What `taskiq worker benchmarks.contestants.workers.taskiq_app:broker` loads."""

from __future__ import annotations

import json
import os

from taskiq_redis import RedisStreamBroker

from benchmarks import ledger

#: The arguments of `RedisStreamBroker`, JSON.
BROKER = "BENCH_TASKIQ_BROKER"

broker = RedisStreamBroker(**json.loads(os.environ[BROKER]))


@broker.task(task_name="noop")
async def noop(index: int) -> None:
    """Do nothing but note that it ran."""
    ledger.append(index)
