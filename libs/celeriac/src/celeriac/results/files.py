"""Results that are too large for Redis: files in the file store, removed when the results expire.

    named in Redis ── written ── result stored with its name ── expired ── removed
          └────────────┴──(its time is up, and no result names it)──┘

A file has a name and a moment from which on it may be removed, in `celeriac:result-files`, before it is written: what a
worker leaves that dies in between is found there. Only `store.lua` moves that moment, in the step that stores the
result, and only while it has not passed. So nothing that a result names is ever about to be removed.

A Redis that loses its data forgets the names along with the results: what then lies in the store stays there.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import IO, cast
from uuid import uuid4

import structlog
from kombu.exceptions import EncodeError
from redis import Redis
from redis.exceptions import RedisError

from celeriac.broker import Keys
from celeriac.errors import CeleriacError
from celeriac.results.patience import PATIENCE_SECONDS, patiently
from celeriac.storage import FileStore

log = structlog.get_logger(__name__)

#: What all names of these files begin with.
FOLDER = "results"

#: From its naming a file may take so long to be written, and its result to be stored, seconds.
NAMED_SECONDS = 900

#: Who has begun to read a result as it expires may read on for so long, seconds.
LINGER_SECONDS = 60

#: A worker waits so long for the file store; then its task fails.
STORE_PATIENCE_SECONDS = 120

#: How often one process of all removes files, seconds; and how many in one go.
SWEEP_SECONDS = 5
_REMOVED_AT_ONCE = 100


class ResultNotStored(CeleriacError, EncodeError):
    """A result that is too large to be kept, or cannot be stored: its task fails by this."""

    title = "Result not stored"
    code = "result-not-stored"
    way_out = "Return less, or put it into the file store and return its key; see that the file store works."


class ResultFiles:
    """Writes, reads and removes the files of results.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
        store: opens the file store, when it is needed.
    """

    def __init__(self, client: Redis, keys: Keys, store: Callable[[], FileStore]) -> None:
        self._client = client
        self._keys = keys
        self._store = store

    def write(self, value: str, token: int | None) -> str:
        """Write a result; it is removed in `NAMED_SECONDS` unless it is stored under its name.

        Args:
            value: the result, JSON.
            token: the fencing token of the delivery that it is the result of; None where there is none.

        Returns:
            Its name.

        Raises:
            ResultNotStored: the file store is away, for `STORE_PATIENCE_SECONDS` or until the task's time limit.
            RedisError: Redis stayed away.
        """
        # No two deliveries, nor two tries of one, share a name: what is refused replaces nothing.
        name = f"{FOLDER}/{token or 0}-{uuid4().hex}"
        patiently("the name of a result's file", lambda: self._name(name), PATIENCE_SECONDS)
        content = value.encode()
        try:
            patiently("the file of a result", lambda: self._put(name, content), STORE_PATIENCE_SECONDS)
        except Exception as error:
            msg = f"its result, {len(content)} bytes, could not be written to the file store: {error}"
            raise ResultNotStored(msg) from error
        return name

    def open(self, name: str) -> IO[bytes]:
        """Open a result for reading; the caller closes it.

        Raises:
            NotFound: it has expired.
            Unavailable: the file store is away.
        """
        return self._store().open(name)

    def read(self, name: str) -> str:
        """Read a whole result; see `open`."""
        with self.open(name) as file:
            return file.read().decode()

    def discard(self, name: str) -> None:
        """Remove a file that no result names; where that fails, `sweep` does it later."""
        try:
            self._remove([name])
        except (CeleriacError, RedisError, OSError) as error:
            log.info("result_file_left", name=name, error=str(error))

    def sweep(self) -> int:
        """Remove files whose time is up; how many. Another process that comes at the same time removes none.

        Raises:
            Unavailable: the file store is away.
            RedisError: Redis is away.
        """
        if not self._client.set(self._keys.files_sweeper, "", nx=True, px=int(1000 * SWEEP_SECONDS) - 500):
            return 0
        removed = 0
        while names := self._due():
            self._remove(names)
            removed += len(names)
        return removed

    def _due(self) -> list[str]:
        found = self._client.zrange(
            self._keys.result_files, "-inf", self._now(), byscore=True, offset=0, num=_REMOVED_AT_ONCE
        )
        return cast("list[str]", found)

    def _name(self, name: str) -> None:
        self._client.zadd(self._keys.result_files, {name: self._now() + NAMED_SECONDS})

    def _put(self, name: str, content: bytes) -> None:
        self._store().put(name, io.BytesIO(content))

    def _remove(self, names: list[str]) -> None:
        # A file that is not there is no error, so whoever ends in the middle leaves nothing that is not found again.
        for name in names:
            self._store().delete(name)
        self._client.zrem(self._keys.result_files, *names)

    def _now(self) -> float:
        seconds, microseconds = self._client.time()
        return seconds + microseconds / 1_000_000


class FileSweep(threading.Thread):
    """A thread that removes files of expired results until the process ends.

    Args:
        files: the files.
    """

    def __init__(self, files: ResultFiles) -> None:
        super().__init__(name="result-files", daemon=True)
        self._files = files
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()

    def run(self) -> None:
        """Sweep now and then."""
        away = False
        while not self._stopping.wait(SWEEP_SECONDS):
            try:
                self._files.sweep()
            except Exception as error:  # noqa: BLE001 - whatever a store raises, files wait until it works again
                if not away:
                    log.warning("result_files_not_removed", error=str(error))
                away = True
            else:
                away = False
