"""The records of living workers, each an expiring hash in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis

from celeriac.broker import Keys

#: Fields that workers of older versions do not write.
_LATER = ("pool", "host", "celery_version", "python_version", "seen_at")


@dataclass(frozen=True)
class WorkerRecord:
    """What a worker says of itself."""

    name: str
    #: The queues it consumes.
    queues: tuple[str, ...]
    #: Tasks that it can run at a time.
    slots: int
    #: Tasks that run now.
    busy: int
    #: `consuming`, or `stuck`.
    consumer: str
    version: str
    pid: int
    #: ISO 8601, UTC.
    started_at: str
    #: How it runs tasks; as all that follows empty where an older version does not say.
    pool: str = ""
    host: str = ""
    celery_version: str = ""
    python_version: str = ""
    #: When it wrote this last, by its own clock, ISO 8601, UTC.
    seen_at: str = ""


class Registry:
    """Reads and writes the records of workers.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
        expires_seconds: when a worker that has not written for so long no longer counts.
    """

    def __init__(self, client: Redis, keys: Keys, *, expires_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._expires_ms = int(expires_seconds * 1000)

    def write(self, record: WorkerRecord) -> None:
        """Write a worker's record, seen now, to expire unless it is written again."""
        fields = {
            "queues": ",".join(record.queues),
            "slots": record.slots,
            "busy": record.busy,
            "consumer": record.consumer,
            "version": record.version,
            "pid": record.pid,
            "started_at": record.started_at,
            "pool": record.pool,
            "host": record.host,
            "celery_version": record.celery_version,
            "python_version": record.python_version,
            "seen_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        key = self._keys.worker(record.name)
        with self._client.pipeline() as pipe:
            pipe.hset(key, mapping=cast("Any", fields))
            pipe.pexpire(key, self._expires_ms)
            pipe.sadd(self._keys.workers, record.name)
            pipe.execute()

    def remove(self, name: str) -> None:
        """Take a worker off, as it does itself when it stops."""
        with self._client.pipeline() as pipe:
            pipe.delete(self._keys.worker(name))
            pipe.srem(self._keys.workers, name)
            pipe.execute()

    def workers(self, known: Iterable[str] | None = None) -> list[WorkerRecord]:
        """Read all living workers, by name.

        Args:
            known: the members of `Keys.workers`, where the caller has read them with something else; None to read them.
        """
        names = sorted(cast("set[str]", self._client.smembers(self._keys.workers)) if known is None else known)
        if not names:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self._keys.worker(name))
            found = dict(zip(names, pipe.execute(), strict=True))
        if gone := [name for name, fields in found.items() if not fields]:
            self._client.srem(self._keys.workers, *gone)
        return [_parse(name, fields) for name, fields in found.items() if fields]


def count_by_queue(workers: Iterable[WorkerRecord], queues: Iterable[str]) -> dict[str, int]:
    """Count the consumers of each queue; a queue that nobody consumes counts 0."""
    counts = Counter(queue for worker in workers for queue in worker.queues)
    return {queue: counts[queue] for queue in sorted({*queues, *counts})}


def _parse(name: str, fields: dict[str, str]) -> WorkerRecord:
    return WorkerRecord(
        name=name,
        queues=tuple(fields["queues"].split(",")),
        slots=int(fields["slots"]),
        busy=int(fields["busy"]),
        consumer=fields["consumer"],
        version=fields["version"],
        pid=int(fields["pid"]),
        started_at=fields["started_at"],
        **{name: fields.get(name, "") for name in _LATER},
    )
