"""What `dramatiq benchmarks.contestants.workers.dramatiq_app` loads."""

from __future__ import annotations

import json
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import ledger

#: The arguments of `RedisBroker`, JSON.
BROKER = "BENCH_DRAMATIQ_BROKER"

dramatiq.set_broker(RedisBroker(**json.loads(os.environ[BROKER])))


@dramatiq.actor(queue_name="bench")
def noop(index: int) -> None:
    """Do nothing but note that it ran."""
    ledger.append(index)
