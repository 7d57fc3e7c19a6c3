"""taskiq with the stream broker of taskiq-redis."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from taskiq.kicker import AsyncKicker
from taskiq_redis import RedisStreamBroker

from benchmarks.contestants.contestant import QUEUE, SLOTS, Contestant

_APP = "benchmarks.contestants.workers.taskiq_app:broker"
_VARIABLE = "BENCH_TASKIQ_BROKER"
_GROUP = "taskiq"


class Taskiq(Contestant):
    """taskiq, a process per slot and one task at a time in each.

    Args:
        redis_url: an empty Redis.
        folder: an empty folder.
        options: arguments of its `RedisStreamBroker`.
    """

    def __init__(self, redis_url: str, folder: Path, *, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(redis_url, folder)
        # From the stream's beginning, so that nothing depends on who declares the group first.
        self._options = {"url": redis_url, "queue_name": QUEUE, "consumer_id": "0", **(options or {})}
        self._loop = asyncio.new_event_loop()
        self._broker = RedisStreamBroker(**self._options)
        self._loop.run_until_complete(self._broker.startup())

    def publish(self, index: int, *, task: str = "noop", queue: str = QUEUE, priority: int | None = None) -> None:
        """Publish by a kicker, as a task's `kiq` does."""
        assert priority is None, "its queues have no priorities"
        kicker: AsyncKicker[Any, Any] = AsyncKicker(task, self._broker, {"queue_name": queue})
        self._loop.run_until_complete(kicker.kiq(index))

    def command(self, queues: Sequence[str], number: int) -> list[str]:
        """The command `taskiq worker`."""
        del queues, number
        options = ["--workers", str(SLOTS), "--max-async-tasks", "1", "--log-level", "WARNING"]
        return [sys.executable, "-m", "taskiq", "worker", _APP, *options]

    def variables(self) -> Mapping[str, str]:
        """What the app reads."""
        return {_VARIABLE: json.dumps(self._options)}

    def recorded(self) -> set[int]:
        """What is pending in its group or has not been delivered; the stream itself keeps everything."""
        group: dict[str, Any] = self.redis.xinfo_groups(QUEUE)[0]
        waiting = self._entries(f"({group['last-delivered-id'].decode()}")
        pending = self.redis.xpending_range(QUEUE, _GROUP, "-", "+", count=1_000_000) if group["pending"] else []
        ids = cast("set[bytes]", {entry["message_id"] for entry in pending})
        if ids:
            waiting += [entry for entry in self._entries(min(ids, key=_order)) if entry[0] in ids]
        return {json.loads(fields[b"data"])["args"][0] for _, fields in waiting}

    def _entries(self, first: bytes | str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", self.redis.xrange(QUEUE, first, "+"))

    def close(self) -> None:
        """Close the broker and the loop that published."""
        self._loop.run_until_complete(self._broker.shutdown())
        self._loop.close()


def _order(entry_id: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split(b"-"))
