"""Upserts on PostgreSQL: COPY into a temporary table, then one INSERT … SELECT … ON CONFLICT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import TIMESTAMP, Connection, collate, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateTable

from celeriac.database import UtcDateTime
from workloads.data_sync.plan import Target
from workloads.data_sync.records import Prepared
from workloads.data_sync.staging import Staging
from workloads.data_sync.upserts import Outcome, Staged

#: About 5 MB of text: large enough that the statements' own cost vanishes, small enough for temp_buffers.
BATCH_ROWS = 10_000

#: The planner knows nothing of the staging table's size: its guess may have a query of 30 ms compiled for 200 ms. The
#: sort of a batch is larger than the usual 4 MB and would go through a file.
_SETTINGS = "SET LOCAL jit = off; SET LOCAL work_mem = '32MB'"

#: What COPY's text format gives a meaning to, and how it is written instead.
_ESCAPES_OF = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPES = str.maketrans(_ESCAPES_OF)


class PostgresUpserter:
    """Writes the batches of one file.

    Args:
        target: the table that the rows go to.
        file_id: the file that they come from.
    """

    batch_rows = BATCH_ROWS
    works_apart = True

    def __init__(self, target: Target, file_id: int) -> None:
        columns = target.table.c
        moments = [name for name in target.data_columns if isinstance(columns[name].type, UtcDateTime)]
        self._staging = staging = Staging(target, file_id, dict.fromkeys(moments, TIMESTAMP()))
        staged = staging.table
        self._create = CreateTable(staged, if_not_exists=True)
        self._copy = f"COPY {staged.name} FROM STDIN"

        now = func.now()
        values = staging.values(now, {name: func.timezone("UTC", staged.c[name]) for name in moments})
        # Two syncs that write the same rows in the same order wait for one another and never deadlock.
        source = select(*values.values()).select_from(staged).order_by(collate(staged.c.key, "C"))
        upsert = insert(target.table).from_select(list(values), source)
        written = (
            upsert.on_conflict_do_update(
                index_elements=staging.primary_key,
                set_=staging.changes(upsert.excluded, now),
                where=staging.should_write(upsert.excluded),
            )
            .returning(
                # A row version that replaced another carries the lock of this transaction in xmax.
                (literal_column(f"{target.table.name}.xmax") == literal_column("0")).label("is_new"),
                (columns.updated_at == now).label("is_changed"),
            )
            .cte("written")
        )
        self._upsert = select(
            func.count(),
            func.count().filter(written.c.is_new),
            func.count().filter(written.c.is_changed & ~written.c.is_new),
        ).select_from(written)

    def encode(self, rows: Prepared) -> Staged:
        """Write a batch in COPY's text format."""
        columns = [_copied(rows.keys), list(map(str, rows.lines)), *map(_copied, rows.columns)]
        text = "\n".join(map("\t".join, zip(*columns, strict=True)))
        return Staged(len(rows.keys), text.encode())

    @contextmanager
    def transaction(self, connection: Connection, staged: Staged) -> Iterator[None]:
        """Open a transaction and copy the batch into the staging table, which is empty again at its end."""
        with connection.begin():
            if staged.rows:
                connection.exec_driver_sql(_SETTINGS)
                connection.execute(self._create)
                driver: Any = connection.connection.driver_connection
                with driver.cursor() as cursor, cursor.copy(self._copy) as copy:
                    copy.write(staged.payload)
            yield

    def upsert(self, connection: Connection, staged: Staged) -> Outcome:
        """Write the staged batch."""
        if not staged.rows:
            return Outcome(0, 0, 0, [])
        written, inserted, updated = connection.execute(self._upsert).one()
        duplicates = self._staging.duplicates(connection) if written < staged.rows else []
        return Outcome(inserted, updated, staged.rows - inserted - updated - len(duplicates), duplicates)


def _copied(values: Sequence[str | None]) -> list[str]:
    """Escape the values of a column, most of which need it not."""
    if None in values:
        return ["\\N" if value is None else value.translate(_ESCAPES) for value in values]
    texts = cast("list[str]", values)  # no None among them
    joined = "".join(texts)
    if not any(map(joined.__contains__, _ESCAPES_OF)):
        return texts
    return [value.translate(_ESCAPES) for value in texts]
