"""Queues and workers at one moment, in two round trips to Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from celeriac.broker.messages import due_ms
from celeriac.platform import CeleriacApp
from celeriac.publishing.headers import SUBMITTED_HEADER


@dataclass(frozen=True)
class QueueState:
    """One queue."""

    name: str
    #: Messages that are due and wait, of all priorities.
    ready: int
    #: Messages that a worker holds.
    in_flight: int
    #: Messages that wait until they are due.
    delayed: int
    #: Messages that were given up.
    dead: int
    #: How long the oldest of the messages that come next has waited, one of each priority, seconds; 0 where none waits.
    oldest_seconds: float
    workers: int
    #: Tasks that its workers can run at a time.
    slots: int
    #: Nothing is claimed from it for the time being.
    paused: bool
    #: Of its workers; several during an upgrade.
    versions: tuple[str, ...]


@dataclass(frozen=True)
class PlatformState:
    """Queues, and the number of all workers."""

    queues: tuple[QueueState, ...]
    workers: int

    @classmethod
    def read(cls, app: CeleriacApp, names: Sequence[str] | None = None) -> Self:
        """Read the state.

        Args:
            app: the platform.
            names: the queues; None for all.

        Raises:
            RedisError: Redis cannot be reached.
        """
        names = [queue.name for queue in app.queues] if names is None else names
        with app.probe_redis.pipeline(transaction=False) as pipe:
            pipe.smembers(app.keys.workers)
            pipe.smembers(app.keys.paused)
            for name in names:
                for key in app.keys.ready_lists(name):
                    pipe.llen(key)
                    pipe.lindex(key, -1)
                pipe.zcard(app.keys.leases(name))
                pipe.zcard(app.keys.delayed(name))
                pipe.llen(app.keys.dead(name))
            answers = iter(pipe.execute())
        workers = app.probe_registry.workers(known=next(answers))
        paused = next(answers)
        now = time.time()
        queues = []
        for name in names:
            pairs = [(next(answers), next(answers)) for _ in app.keys.ready_lists(name)]
            consumers = [worker for worker in workers if name in worker.queues]
            queues.append(
                QueueState(
                    name=name,
                    ready=sum(length for length, _ in pairs),
                    in_flight=next(answers),
                    delayed=next(answers),
                    dead=next(answers),
                    oldest_seconds=max((_age(raw, now) for _, raw in pairs if raw), default=0.0),
                    workers=len(consumers),
                    slots=sum(worker.slots for worker in consumers),
                    paused=name in paused,
                    versions=tuple(sorted({worker.version for worker in consumers})),
                )
            )
        return cls(queues=tuple(queues), workers=len(workers))


def _age(raw: str, now: float) -> float:
    try:
        headers = json.loads(raw)["headers"]
        # One that was delayed has waited since it was due.
        since_ms = max(headers.get(SUBMITTED_HEADER) or 0, due_ms(headers) or 0)
    except (ValueError, KeyError, AttributeError, TypeError):
        return 0.0  # not a message of ours: its age is not known
    return max(0.0, now - since_ms / 1000) if since_ms else 0.0
