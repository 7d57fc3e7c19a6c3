"""Who listens, and what each of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
from redis.exceptions import RedisError

from celeriac.broker import Endpoint, Keys
from celeriac.broker.line import Line
from celeriac.errors import Unavailable
from celeriac.events.event import Entry, TaskEvent
from celeriac.events.feed import Feed
from celeriac.events.reader import Reader
from celeriac.events.watch import Watch
from celeriac.results import Records, TaskFilter

log = structlog.get_logger(__name__)

#: The connection is kept for so long after the last listener has gone, seconds: often there is another one soon.
_LINGER_SECONDS: Final = 5.0

#: Records that are read in one go.
_READ: Final = 100

#: From one attempt to read records to the next, where Redis is away, seconds.
_PAUSE_SECONDS: Final = 0.5


class Closed(Unavailable):
    """The API process ends, so nobody can listen to it any more."""

    title = "Closing"
    code = "closing"
    way_out = "Listen again, with `Last-Event-ID`: another process answers."
    retry_after_seconds = 1

    def __init__(self) -> None:
        """Say so."""
        super().__init__("this API process ends; try again")


class Events:
    """What the listeners of an event loop share: one connection to Redis, and for each change one look at its record.

    Args:
        endpoint: where Redis is.
        keys: the names of keys.
        records: the task records.
        line: what reads records and older events.
    """

    def __init__(self, endpoint: Endpoint, keys: Keys, records: Records, line: Line) -> None:
        self._key = keys.events
        self._records = records
        self._line = line
        self._reader = Reader(endpoint, self._key, self._tell, self._look_again)
        self._watches: dict[str, set[Watch]] = {}
        self._feeds: set[Feed] = set()
        self._listeners = 0
        self._leaving: asyncio.TimerHandle | None = None
        #: Tasks whose record has changed, or may have; in order.
        self._changed: dict[str, None] = {}
        self._changes = asyncio.Event()
        self._showing: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def watch(self, task_id: str) -> AsyncIterator[Watch]:
        """Follow a task: whoever reads its record after this has begun misses no later change.

        Raises:
            Closed: this process ends.
            RedisError: Redis is away.
        """
        with self._listening():
            await self._begun()
            watch = Watch()
            watches = self._watches.setdefault(task_id, set())
            watches.add(watch)
            try:
                yield watch
            finally:
                watches.discard(watch)
                if not watches and self._watches.get(task_id) is watches:
                    del self._watches[task_id]

    @asynccontextmanager
    async def feed(self, chosen: TaskFilter, after: str | None = None) -> AsyncIterator[Feed]:
        """Follow many tasks.

        Args:
            chosen: their state, queue and name.
            after: the id of the last event that the listener knows; None for those that come from now on.

        Raises:
            Closed: this process ends.
            RedisError: Redis is away.
        """
        with self._listening():
            end = await self._begun()
            feed = Feed(self._key, self._line, chosen, after or end, behind=after is not None)
            self._feeds.add(feed)
            try:
                yield feed
            finally:
                self._feeds.discard(feed)

    def close(self) -> None:
        """Let nobody listen any more; those who wait get `Closed`."""
        self._closed = True
        for feed in self._feeds:
            feed.end(Closed())
        for watches in self._watches.values():
            for watch in watches:
                watch.end(Closed())
        self._stop()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        if self._closed:
            raise Closed
        self._listeners += 1
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._showing is None:
            self._showing = asyncio.create_task(self._show())
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and not self._closed:
                loop = asyncio.get_running_loop()
                self._leaving = loop.call_later(_LINGER_SECONDS, self._stop)

    async def _begun(self) -> str:
        """The id of the event after which all others are told from now on."""
        try:
            return await self._reader.connected()
        except RedisError:
            if self._closed:
                raise Closed from None
            raise

    def _stop(self) -> None:
        showing, self._showing = self._showing, None
        if showing is not None:
            showing.cancel()
        self._reader.stop()

    def _tell(self, entries: Sequence[Entry]) -> None:
        for _, fields in entries:
            if fields[1] in self._watches:
                self._changed[fields[1]] = None
        if self._changed:
            self._changes.set()
        if self._feeds:
            events = TaskEvent.read(entries)
            for feed in self._feeds:
                feed.tell(events, entries[-1][0])

    def _look_again(self) -> None:
        self._changed.update(dict.fromkeys(self._watches))
        self._changes.set()
        for feed in self._feeds:
            feed.look_again()

    async def _show(self) -> None:
        """Read the records that have changed, each once however often that was, and give them to who follows them."""
        while True:
            await self._changes.wait()
            self._changes.clear()
            task_ids = [task_id for task_id in self._changed if task_id in self._watches]
            self._changed.clear()
            for start in range(0, len(task_ids), _READ):
                some = task_ids[start : start + _READ]
                try:
                    records = await self._records.get_by(self._line, some)
                except RedisError:
                    self._changed.update(dict.fromkeys(task_ids[start:]))
                    self._changes.set()
                    await asyncio.sleep(_PAUSE_SECONDS)
                    break
                except Exception:  # something else writes there; those who come again see which it is
                    log.exception("records_unreadable")
                    for watch in [watch for task_id in some for watch in self._watches.get(task_id, ())]:
                        watch.end(Closed())
                    continue
                for task_id, record in zip(some, records, strict=True):
                    for watch in self._watches.get(task_id, ()):
                        watch.show(record)
