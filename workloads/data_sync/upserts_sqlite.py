"""Upserts on SQLite: a temporary table filled while nothing is locked, then one short writing transaction.

SQLite has one writer at a time, and all others wait for it: batches are sized so that it stays under 100 ms.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select, true
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateTable

from celeriac.database import UtcDateTime
from workloads.data_sync.plan import Target
from workloads.data_sync.records import Prepared
from workloads.data_sync.staging import Staging
from workloads.data_sync.upserts import Outcome, Staged

#: The batch that a sync starts with, and the bounds of what it may become.
BATCH_ROWS = 2_000
LEAST_BATCH_ROWS = 100
MOST_BATCH_ROWS = 4_000

#: Where the batch is made smaller, and where larger: well below the 100 ms that others may have to wait.
SLOW_SECONDS = 0.04
QUICK_SECONDS = 0.015


class SqliteUpserter:
    """Writes the batches of one file.

    Args:
        target: the table that the rows go to.
        file_id: the file that they come from.
    """

    #: Preparing the next batch meanwhile would make others wait longer for the lock.
    works_apart = False

    def __init__(self, target: Target, file_id: int) -> None:
        self.batch_rows = BATCH_ROWS
        self._staging = staging = Staging(target, file_id, {})
        staged, table = staging.table, target.table
        self._create = str(CreateTable(staged, if_not_exists=True))
        self._clear = f"DELETE FROM {staged.name}"  # noqa: S608 - a name of ours
        places = ", ".join(repeat("?", len(staged.c)))
        self._insert = f"INSERT INTO {staged.name} VALUES ({places})"  # noqa: S608 - a name of ours

        now: ColumnElement[datetime] = bindparam("now", type_=UtcDateTime)
        values = staging.values(now, {})
        # Without WHERE, SQLite would read ON CONFLICT as the condition of a join.
        upsert = insert(table).from_select(list(values), select(*values.values()).select_from(staged).where(true()))
        self._upsert = upsert.on_conflict_do_update(
            index_elements=staging.primary_key,
            set_=staging.changes(upsert.excluded, now),
            where=staging.should_write(upsert.excluded),
        )
        duplicate = staging.is_duplicate(staged.c.line)
        self._count = select(
            func.count().filter(table.c.key.is_(None)),
            func.count().filter(table.c.key.is_not(None) & staging.differs(staged.c) & ~duplicate),
            func.count().filter(duplicate),
        ).select_from(staged.outerjoin(table, staging.is_same_row()))

    def encode(self, rows: Prepared) -> Staged:
        """Sort a batch by key, which is the order that the table's index likes."""
        payload = sorted(zip(rows.keys, rows.lines, *rows.columns, strict=True), key=itemgetter(0))
        return Staged(len(payload), payload)

    @contextmanager
    def transaction(self, connection: Connection, staged: Staged) -> Iterator[None]:
        """Stage the batch, then open the writing transaction; the next batch's size follows the time that it takes."""
        driver: Any = connection.connection.driver_connection
        driver.execute(self._create)
        driver.execute("BEGIN")  # deferred: only the temporary database is locked
        try:
            driver.execute(self._clear)
            driver.executemany(self._insert, staged.payload)
        except BaseException:
            driver.execute("ROLLBACK")
            raise
        driver.execute("COMMIT")
        with connection.begin():
            started = time.monotonic()
            yield
        self._resize(staged.rows, time.monotonic() - started)

    def upsert(self, connection: Connection, staged: Staged) -> Outcome:
        """Write the staged batch."""
        inserted, updated, duplicated = connection.execute(self._count).one()
        connection.execute(self._upsert, {"now": datetime.now(UTC)})
        duplicates = self._staging.duplicates(connection) if duplicated else []
        return Outcome(inserted, updated, staged.rows - inserted - updated - duplicated, duplicates)

    def _resize(self, rows: int, seconds: float) -> None:
        if seconds > SLOW_SECONDS:
            self.batch_rows = max(LEAST_BATCH_ROWS, rows // 2)
        elif seconds < QUICK_SECONDS and rows >= self.batch_rows:
            self.batch_rows = min(MOST_BATCH_ROWS, rows * 3 // 2)
