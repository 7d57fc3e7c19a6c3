"""How a worker is, as its supervisor sees it."""

from __future__ import annotations

import os
import platform
import socket
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from celeriac.broker.table import LeaseTable
from celeriac.registry import WorkerRecord

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

#: A worker with a free slot claims something of a backlog in this time, and hears from the broker, seconds.
PROGRESS_SECONDS = 10.0


class Condition:
    """Judges one worker by its vital signs.

    Args:
        app: the platform.
        table: what the worker holds, and its vital signs.
        name: its node name.
        queues: the queues that it is to consume.
        slots: tasks that it runs at a time.
        pool: how it runs them.
    """

    def __init__(
        self, app: CeleriacApp, table: LeaseTable, *, name: str, queues: list[str], slots: int, pool: str
    ) -> None:
        self._app = app
        self._table = table
        self._name = name
        self._queues = queues
        self._slots = slots
        self._pool = pool
        self._since = time.monotonic()
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")

    @property
    def silent_seconds(self) -> float:
        """How long the worker's loop has stood still; 0 before its first turn, for starting has a probe of its own."""
        turned_at = self._table.loop_turned_at
        if not turned_at or (self._pool == "solo" and self._table.entries()):
            return 0.0  # with the solo pool a task runs in the loop's place
        return time.monotonic() - turned_at

    def record(self) -> WorkerRecord | None:
        """What the worker says of itself; None while it consumes nothing and so does not count."""
        consumed = self._table.consumed
        if not consumed or self._table.stopping:
            return None
        return WorkerRecord(
            name=self._name,
            queues=tuple(consumed),
            slots=self._slots,
            busy=min(self._slots, self._table.busy),
            consumer="consuming" if self._stalled() is None else "stuck",
            version=version("celeriac"),
            pid=os.getpid(),
            started_at=self._started_at,
            pool=self._pool,
            host=socket.gethostname(),
            celery_version=version("celery"),
            python_version=platform.python_version(),
        )

    def not_ready(self) -> str | None:
        """What keeps the worker from its work; None when nothing does.

        Raises:
            RedisError: Redis cannot be reached.
        """
        lists = [(queue, name) for queue in self._queues for name in self._app.keys.ready_lists(queue)]
        with self._app.probe_redis.pipeline(transaction=False) as pipe:
            pipe.smembers(self._app.keys.paused)
            for _, name in lists:
                pipe.llen(name)
            paused, *lengths = pipe.execute()
        waiting = zip(lists, lengths, strict=True)
        backlog = sum(length for (queue, _), length in waiting if queue not in paused)
        if self._table.stopping:
            return "it shuts down"
        if missing := set(self._queues) - set(self._table.consumed):
            return f"does not consume {', '.join(sorted(missing))}"
        if reason := self._stalled():
            return reason
        idle = time.monotonic() - max(self._table.claimed_at, self._since)
        if backlog and self._table.free_slots and idle > PROGRESS_SECONDS:
            free = self._table.free_slots
            return f"{backlog} messages wait and {free} slots are free, but none was claimed for {idle:.0f} s"
        return None

    def _stalled(self) -> str | None:
        if self.silent_seconds > self._app.settings.probe.stuck_seconds:
            return f"its loop has stood still for {self.silent_seconds:.0f} s"
        unheard = time.monotonic() - max(self._table.broker_answered_at, self._since)
        if self._table.free_slots and unheard > PROGRESS_SECONDS:
            return f"its consumer has not heard from the broker for {unheard:.0f} s"
        return None
