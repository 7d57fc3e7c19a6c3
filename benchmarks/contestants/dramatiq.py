"""dramatiq with its Redis broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.contestants.contestant import QUEUE, SLOTS, Contestant

_APP = "benchmarks.contestants.workers.dramatiq_app"
_VARIABLE = "BENCH_DRAMATIQ_BROKER"


class Dramatiq(Contestant):
    """dramatiq, a process per slot.

    Args:
        redis_url: an empty Redis.
        folder: an empty folder.
        options: arguments of its `RedisBroker`.
    """

    def __init__(self, redis_url: str, folder: Path, *, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(redis_url, folder)
        self._options = {"url": redis_url, **(options or {})}
        self._broker = RedisBroker(**self._options)
        self._broker.declare_queue(QUEUE)

    def publish(self, index: int, *, task: str = "noop", queue: str = QUEUE, priority: int | None = None) -> None:
        """Publish by the broker's `enqueue`, as an actor's `send` does."""
        assert priority is None, "its queues have no priorities"
        message = dramatiq.Message(queue_name=queue, actor_name=task, args=(index,), kwargs={}, options={})
        self._broker.enqueue(message)

    def command(self, queues: Sequence[str], number: int) -> list[str]:
        """The command `dramatiq`."""
        del number
        options = ["--processes", str(SLOTS), "--threads", "1", "--queues", *queues]
        return [sys.executable, "-m", "dramatiq", _APP, *options]

    def variables(self) -> Mapping[str, str]:
        """What the app reads."""
        return {_VARIABLE: json.dumps(self._options)}

    def recorded(self) -> set[int]:
        """What its hash of messages holds: it takes them out when they are acknowledged."""
        return {
            json.loads(message)["args"][0]
            for message in cast("list[bytes]", self.redis.hvals(f"{self._broker.namespace}:{QUEUE}.msgs"))
        }

    def close(self) -> None:
        """Close the broker's connections."""
        self._broker.close()
        self._broker.client.close()
