"""Queues and workers at one moment, in two round trips to Redis."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Self

from celeriac.platform import CeleriacApp
from celeriac.publishing.headers import SUBMITTED_HEADER


@dataclass(frozen=True)
class QueueState:
    """One queue."""

    name: str
    #: Messages that are due and wait, of all priorities.
    ready: int
    #: Age of the oldest of the messages that come next, one of each priority, seconds; 0 where none waits.
    oldest_seconds: float
    workers: int
    #: Tasks that its workers can run at a time.
    slots: int


@dataclass(frozen=True)
class PlatformState:
    """All queues and the number of workers."""

    queues: tuple[QueueState, ...]
    workers: int

    @classmethod
    def read(cls, app: CeleriacApp) -> Self:
        """Read the state.

        Raises:
            RedisError: Redis cannot be reached.
        """
        workers = app.probe_registry.workers()
        names = [queue.name for queue in app.queues]
        with app.probe_redis.pipeline(transaction=False) as pipe:
            for name in names:
                for key in app.keys.ready_lists(name):
                    pipe.llen(key)
                    pipe.lindex(key, -1)
            answers = iter(pipe.execute())
        now = time.time()
        queues = []
        for name in names:
            pairs = [(next(answers), next(answers)) for _ in app.keys.ready_lists(name)]
            consumers = [worker for worker in workers if name in worker.queues]
            queues.append(
                QueueState(
                    name=name,
                    ready=sum(length for length, _ in pairs),
                    oldest_seconds=max((_age(raw, now) for _, raw in pairs if raw), default=0.0),
                    workers=len(consumers),
                    slots=sum(worker.slots for worker in consumers),
                )
            )
        return cls(queues=tuple(queues), workers=len(workers))


def _age(raw: str, now: float) -> float:
    try:
        submitted_ms = json.loads(raw)["headers"].get(SUBMITTED_HEADER)
    except (ValueError, KeyError, AttributeError):
        return 0.0  # not a message of ours: its age is not known
    return max(0.0, now - submitted_ms / 1000) if submitted_ms else 0.0
