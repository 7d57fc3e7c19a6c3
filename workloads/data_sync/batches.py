"""Read and prepare the next batches of a file while the database writes one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from workloads.data_sync.plan import Plan
from workloads.data_sync.reading import Reader
from workloads.data_sync.records import Rejection
from workloads.data_sync.upserts import Staged, Upserter

#: Batches that are prepared or being prepared, beside the one that the database writes.
_AHEAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The records of a file up to a position, ready to be written."""

    staged: Staged
    rejections: list[Rejection]
    #: The position that is reached when the batch is committed.
    end: int


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


class Batches:
    """The batches of a file from a position on, prepared by a thread of their own.

    Use it as a context manager: the thread has ended and the reader is closed when the block is left, however it is
    left. What goes wrong in the thread is raised from the iteration.

    Args:
        reader: the file, which the thread owns from here on.
        plan: what turns its records into rows.
        upserter: what encodes the rows and says how many it wants.
        start: the position to read from.
    """

    def __init__(self, reader: Reader, plan: Plan, upserter: Upserter, start: int) -> None:
        self._reader = reader
        self._plan = plan
        self._upserter = upserter
        self._start = start
        self._ready: queue.SimpleQueue[Batch | _Failure | None] = queue.SimpleQueue()
        self._permits = threading.Semaphore(_AHEAD)
        self._current: Batch | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="data-sync-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = True
        self._permits.release()
        self._thread.join()

    def __iter__(self) -> Iterator[Batch]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def prepare_next(self, current: Batch) -> None:
        """Let the thread go on; to be called once or more, when the database begins its work on a batch or has done it.

        Not earlier: while a batch is sent, this thread and the sending one would wait for the interpreter lock in
        turn, and the database for both.
        """
        if self._current is not current:
            self._current = current
            self._permits.release()

    def _run(self) -> None:
        try:
            try:
                self._prepare()
            finally:
                self._reader.close()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            self._ready.put(_Failure(error))
        else:
            self._ready.put(None)

    def _prepare(self) -> None:
        blocks = self._reader.blocks(self._start, lambda: self._upserter.batch_rows)
        while self._permits.acquire() and not self._stopped and (block := next(blocks, None)):
            rows = self._plan.prepare(block)
            self._ready.put(Batch(self._upserter.encode(rows), rows.rejections, block.end))
