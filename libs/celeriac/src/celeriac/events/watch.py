"""The record of one task, whenever it changes."""

from __future__ import annotations

import asyncio

from celeriac.results import TaskRecord


class Watch:
    """What a listener to one task is given; made by `Events.watch`.

    It holds the latest record only, so that a listener that takes its time costs no more than any other.
    """

    def __init__(self) -> None:
        self._record: TaskRecord | None = None
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def next(self) -> TaskRecord | None:
        """Wait for the record as it is after one change or several; None where it has expired.

        It may be one that the listener knows: each has its `event`.

        Raises:
            Closed: this process ends.
        """
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error
        return self._record

    def show(self, record: TaskRecord | None) -> None:
        """Give the listener the record as it is now."""
        self._record = record
        self._news.set()

    def end(self, error: Exception) -> None:
        """Raise an error where the listener waits."""
        self._error = error
        self._news.set()
