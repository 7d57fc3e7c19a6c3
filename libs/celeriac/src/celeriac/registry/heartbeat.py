"""Keeps a worker's record alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from celeriac.registry.directory import WorkerRecord

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

#: A worker that does not count yet is looked at again after so long, seconds.
_NOT_YET_SECONDS = 0.1


class Heartbeat(threading.Thread):
    """A thread that writes a worker's record every few seconds until it is told to stop.

    Args:
        app: the platform.
        record: what the worker says of itself; None while it does not count.
    """

    def __init__(self, app: CeleriacApp, record: Callable[[], WorkerRecord | None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._app = app
        self._record = record
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread, and wait for its last word."""
        self._stopping.set()
        self.join(timeout=10)

    def run(self) -> None:
        """Write the record; take it off when the worker does not count any more."""
        interval = self._app.settings.registry.heartbeat_seconds
        known: str | None = None
        while True:
            record, failed = self._record(), False
            try:
                if record is not None:
                    self._app.registry.write(record)
                    known = record.name
                elif known is not None:
                    self._app.registry.remove(known)
                    known = None
            except RedisError as error:
                log.warning("heartbeat_failed", error=str(error))
                failed = True
            if self._stopping.wait(interval if record is not None or failed else _NOT_YET_SECONDS):
                return
