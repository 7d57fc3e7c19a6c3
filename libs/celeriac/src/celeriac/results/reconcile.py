"""Finds tasks that wait or run by their record, and whose message is nowhere any more: these never end by themselves.

That takes more than a crash, for record and message are written in one step: somebody has deleted a queue's lists, a
stock worker has consumed from them, or a task was ended by `raise Ignore`.

Nothing is locked, so messages move while they are looked for. What makes the answer certain:

- Ready lists are read from the end where messages are added, and what is in flight last. A message that nobody moves,
  or that is only claimed meanwhile, is seen.
- All other moves are noted by those who make them, as long as somebody looks; of what was moved nothing is said.
- A record that has changed since is left alone.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis import Redis

from celeriac.broker import Endpoint, Keys
from celeriac.broker.endings import result_parts
from celeriac.contract.tasks import TaskState
from celeriac.errors import MessageLost
from celeriac.results.listing import Listing, TaskFilter
from celeriac.results.record import TaskRecord
from celeriac.results.records import now_iso, script

log = structlog.get_logger(__name__)

#: Moves are noted for so long after the last sign of whoever looks, seconds.
_NOTED_SECONDS = 60

#: Messages read in one round trip; Redis does nothing else meanwhile.
_CHUNK = 100

#: Records read in one go.
_PAGE = 1000

#: Tasks failed in one step.
_STEP = 50

_MESSAGE = "its message is nowhere any more: deleted, or consumed by something else than a worker of this platform"

_OPEN = tuple(state for state in TaskState if not state.ready)

_FIELDS = ("state", "queue", "submitted_at", "delivery", "retries", "next_try")

# Quotes within JSON strings are escaped, so that these are found only where they are keys.
_ID = re.compile(rb'"(?:correlation_)?id": ?"((?:[^"\\]|\\.)+)"')


@dataclass(frozen=True)
class Reconciled:
    """What became of some tasks."""

    #: Tasks that wait or run by their record.
    examined: int
    #: Those of which nothing can be said: their messages are acknowledged before they run.
    skipped: int
    #: Those that have failed now.
    lost: Sequence[str]
    #: What goes on with the next ones; None at the end.
    next_cursor: str | None


class Reconciliation:
    """Compares records with messages.

    Args:
        endpoint: where Redis is.
        keys: the names of keys.
        listing: the lists of records.
        expires_seconds: how long the record and result of a lost task are kept.
        keeps_message: whether the message of a task, by its name, is there until it has ended.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        listing: Listing,
        *,
        expires_seconds: int,
        keeps_message: Callable[[str], bool],
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._listing = listing
        self._expires_seconds = expires_seconds
        self._keeps_message = keeps_message

    def __call__(self, *, limit: int = 10_000, cursor: str | None = None) -> Reconciled:
        """Fail those of some tasks whose message is nowhere any more.

        All messages that there are have to be read: 2 to 3 s for 100,000.

        Args:
            limit: how many tasks to examine at most, the newest first.
            cursor: `next_cursor` of the call before.

        Raises:
            InvalidInput: the cursor is none.
            RedisError: Redis is away; some may have been failed.
        """
        records, next_cursor = self._records(limit, cursor)
        judged = [record.task_id for record in records if self._keeps_message(record.name)]
        lost = self._fail_lost(judged) if judged else []
        log.info("tasks_reconciled", examined=len(records), lost=len(lost))
        return Reconciled(len(records), len(records) - len(judged), lost, next_cursor)

    def _records(self, limit: int, cursor: str | None) -> tuple[list[TaskRecord], str | None]:
        records: list[TaskRecord] = []
        while len(records) < limit:
            page = self._listing.page(TaskFilter(states=_OPEN), limit=min(_PAGE, limit - len(records)), cursor=cursor)
            records += page.records
            cursor = page.next_cursor
            if cursor is None:
                break
        return records, cursor

    def _fail_lost(self, task_ids: Iterable[str]) -> list[str]:
        looker = secrets.token_hex(16)
        # One connection: through another, after a failover, another history would be seen.
        pool = self._endpoint.pool(socket_timeout=5, socket_connect_timeout=2, health_check_interval=0)
        with Redis(connection_pool=pool, single_connection_client=True) as client:
            client.sadd(self._keys.moved, looker)
            client.expire(self._keys.moved, _NOTED_SECONDS)
            before = self._read(client, task_ids)
            missing = set(before)
            for raws in self._messages(client):
                if not missing:
                    break
                missing -= {task_id for raw in raws for task_id in _ids(raw)}
                client.expire(self._keys.moved, _NOTED_SECONDS)
            lost = self._fail(client, looker, [(task_id, before[task_id]) for task_id in sorted(missing)])
            client.srem(self._keys.moved, looker)
            return lost

    def _read(self, client: Redis, task_ids: Iterable[str]) -> dict[bytes, list[bytes]]:
        """What the records of those say that still wait or run, by task id."""
        asked = [task_id.encode() for task_id in task_ids]
        found: list[Any] = []
        for start in range(0, len(asked), _CHUNK):
            with client.pipeline(transaction=False) as pipe:
                for task_id in asked[start : start + _CHUNK]:
                    pipe.hmget(self._keys.task(task_id.decode()), _FIELDS)
                found += pipe.execute()
        states = {state.encode() for state in _OPEN}
        return {
            task_id: [value or b"" for value in fields]
            for task_id, fields in zip(asked, found, strict=True)
            if fields[0] in states
        }

    def _messages(self, client: Redis) -> Iterator[Iterable[bytes]]:
        queues = sorted(name.decode() for name in cast("set[bytes]", client.smembers(self._keys.queues)))
        for name in (name for queue in queues for name in self._keys.ready_lists(queue)):
            # From where messages are added: one that is not read yet never comes before what is.
            start = 0
            while raws := cast("list[bytes]", client.lrange(name, start, start + _CHUNK - 1)):
                yield raws
                start += len(raws)
        # Last what is claimed, for that is where messages go to that nobody notes.
        for key in (*map(self._keys.delayed_messages, queues), self._keys.inflight):
            cursor = -1
            while cursor:
                cursor, entries = cast("Any", client.hscan(key, max(cursor, 0), count=_CHUNK))
                yield entries.values()

    def _fail(self, client: Redis, looker: str, lost: Sequence[tuple[bytes, list[bytes]]]) -> list[str]:
        reconcile = client.register_script(script("move", "reconcile"))
        failed: list[bytes] = []
        for start in range(0, len(lost), _STEP):
            now = now_iso()
            args: list[str | bytes | int] = [self._keys.prefix, looker, now, self._expires_seconds]
            args += result_parts(TaskState.FAILURE, MessageLost, _MESSAGE, now)
            for task_id, fields in lost[start : start + _STEP]:
                args += [task_id, *fields]
            failed += reconcile(keys=[self._keys.moved], args=args)
        return [task_id.decode() for task_id in failed]


def _ids(raw: bytes) -> Iterator[bytes]:
    for task_id in _ID.findall(raw):
        if b"\\" not in task_id:
            yield task_id
            continue
        with suppress(ValueError):
            yield json.loads(b'"%s"' % task_id).encode()
