"""The changes of many tasks, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from celeriac.broker.line import Line
from celeriac.events.event import START, TaskEvent, place
from celeriac.results import TaskFilter

#: Events that wait for a listener. One that is further behind reads on in the stream itself.
_WAITING: Final = 1000

#: Events that are read there in one go.
_READ: Final = 500


class Gap:
    """Stands where events were lost: the listener was away or slow for longer than the stream reaches back."""


GAP: Final = Gap()


class Feed:
    """What a listener to many tasks is given; made by `Events.feed`.

    Args:
        key: the stream.
        line: what reads it where the listener is behind.
        chosen: state, queue and name of the events that it wants.
        after: the id of the last event that the listener knows.
        behind: whether there may be events after that one already.
    """

    def __init__(self, key: str, line: Line, chosen: TaskFilter, after: str, *, behind: bool) -> None:
        self._key = key
        self._line = line
        self._chosen = chosen
        self._behind = behind
        self._latest = self._after = after
        self._waiting: list[TaskEvent] = []
        self._error: Exception | None = None
        self._news = asyncio.Event()
        if behind:
            self._news.set()

    @property
    def after(self) -> str:
        """The id of the last event that the listener knows, or does not want."""
        if not self._behind and not self._waiting:
            self._pass(self._latest)
        return self._after

    async def next(self) -> list[TaskEvent | Gap]:
        """Wait for further events, and for gaps between them; there may be none in the end.

        Raises:
            Closed: this process ends.
            RedisError: Redis is away; ask again later.
        """
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error
        if self._behind:
            return await self._catch_up()
        events, self._waiting = self._waiting, []
        known = place(self._after)
        self._pass(self._latest)
        return [event for event in events if place(event.id) > known]

    def tell(self, events: Sequence[TaskEvent], latest: str) -> None:
        """Give the listener events, in their order, those that it does not want among them; `latest` is the last id."""
        self._latest = latest
        if not self._behind:
            self._waiting += [event for event in events if event.matches(self._chosen)]
            if len(self._waiting) > _WAITING:
                self.look_again()
            elif self._waiting:
                self._news.set()

    def look_again(self) -> None:
        """Let the listener read on in the stream itself: it may not have been told of everything."""
        self._behind = True
        self._waiting.clear()
        self._news.set()

    def end(self, error: Exception) -> None:
        """Raise an error where the listener waits."""
        self._error = error
        self._news.set()

    async def _catch_up(self) -> list[TaskEvent | Gap]:
        # From now on events are kept again; those that are also read here are told apart by their ids.
        self._behind = False
        try:
            first, last, entries = await self._line.execute_all(
                [
                    ("XRANGE", self._key, "-", "+", "COUNT", 1),
                    ("XREVRANGE", self._key, "+", "-", "COUNT", 1),
                    ("XRANGE", self._key, f"({self._after}", "+", "COUNT", _READ),
                ]
            )
        except BaseException:
            self.look_again()  # also where somebody who waits has lost patience
            raise
        found: list[TaskEvent | Gap] = []
        # One that lies after the last is of a Redis that has lost its data since.
        lost = not first or not place(first[0][0]) <= place(self._after) <= place(last[0][0])
        if lost and self._after != START:
            found.append(GAP)
            self._after = self._latest = last[0][0] if last and not entries else START
        if entries:
            self._pass(entries[-1][0])
        if len(entries) == _READ:
            self.look_again()
        found += [event for event in TaskEvent.read(entries) if event.matches(self._chosen)]
        return found

    def _pass(self, event_id: str) -> None:
        if place(event_id) > place(self._after):
            self._after = event_id
