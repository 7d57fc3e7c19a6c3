"""Sync a file into its table: resumable, repeatable, and safe beside other syncs of the same file.

Each batch commits its rows, its rejections, the counts and the position in one transaction. A sync that is killed
and started again under its task's id goes on after the last committed batch; under another id it begins anew and
finds the rows that are there already unchanged. See `runs` for executions of one task that overlap.

Memory stays bounded: three batches of about a million characters are under way at a time, whatever the file's length.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from celeriac.database import Database
from celeriac.errors import NotFound
from celeriac.storage import FileStore
from workloads.data_sync.batches import Batch, Batches
from workloads.data_sync.files import rejections
from workloads.data_sync.keys import repeated
from workloads.data_sync.models import DataFile, RejectedRow
from workloads.data_sync.platforms import plan_for
from workloads.data_sync.reading import open_reader
from workloads.data_sync.records import Rejection, shown
from workloads.data_sync.runs import Progress, Run, Superseded, mark_failed
from workloads.data_sync.upserts import Upserter
from workloads.data_sync.upserts_postgresql import PostgresUpserter
from workloads.data_sync.upserts_sqlite import SqliteUpserter

#: The rejections that the result shows; `files.rejections` gives all of them.
SHOWN_REJECTIONS = 100

#: How often a batch is tried again after a deadlock or a lock that was not given in time.
BATCH_RETRIES = 5

#: serialization_failure, deadlock_detected, lock_not_available
_PASSING_STATES = frozenset({"40001", "40P01", "55P03"})

#: Called with the lines that are committed and the lines of the file; None when their number is not known.
OnProgress = Callable[[int, int | None], None]


def sync_file(
    database: Database,
    store: FileStore,
    file_id: int,
    task_id: str,
    on_progress: OnProgress = lambda _current, _total: None,
) -> dict[str, Any]:
    """Sync a file, or the rest of it when an earlier execution of the task did some of it.

    Args:
        database: where the rows go.
        store: where the file lies.
        file_id: the file.
        task_id: the task; the same after a crash, another for another sync.
        on_progress: called at the start and after each commit; what it raises ends the sync between two batches.

    Returns:
        `file_id`, `rows` (all records), `inserted`, `updated`, `unchanged`, `rejected` (these four add up to `rows`)
        and `errors`, the first 100 rejections as objects with `line`, `column`, `value` and `reason`.

    Raises:
        NotFound: there is no such file.
        InvalidInput: the file cannot be read at all.
        Superseded: another execution of the task took over and goes on with it.
    """
    with database.read() as session:
        file = session.get(DataFile, file_id)
    if file is None:
        raise NotFound("file", file_id)
    run = Run(task_id, file_id)
    run.start(database)
    if not run.finished:
        try:
            _sync_rest(database, store, file, run, on_progress)
            run.finish(database)
        except Superseded:
            raise
        except Exception as error:
            with suppress(SQLAlchemyError):  # the first error is the one to show
                mark_failed(database, file_id, task_id, str(error) or type(error).__name__)
            raise
    return {"file_id": file_id, **run.progress.counts(), "errors": rejections(database, file_id, SHOWN_REJECTIONS)}


def _sync_rest(database: Database, store: FileStore, file: DataFile, run: Run, on_progress: OnProgress) -> None:
    reader = open_reader(store.open(file.storage_key))
    try:
        plan = plan_for(file.platform, reader.columns, file.key_columns)
        kind = SqliteUpserter if database.is_sqlite else PostgresUpserter
        upserter: Upserter = kind(plan.target, file.id)
    except BaseException:
        reader.close()
        raise
    on_progress(run.progress.position, file.lines)
    with (
        Batches(reader, plan, upserter, run.progress.position) as batches,
        database.writing_engine.connect() as connection,
    ):
        for batch in batches:
            _with_retries(partial(_write, connection, upserter, run, batches, batch, plan.key_column))
            batches.prepare_next(batch)
            current = run.progress.position
            on_progress(current if file.lines is None else min(current, file.lines), file.lines)


def _write(
    connection: Connection, upserter: Upserter, run: Run, batches: Batches, batch: Batch, key_column: str | None
) -> None:
    with upserter.transaction(connection, batch.staged):
        if upserter.works_apart:
            batches.prepare_next(batch)
        outcome = upserter.upsert(connection, batch.staged)
        refused = batch.rejections + [
            repeated(each.line, each.key, each.first_line, key_column) for each in outcome.duplicates
        ]
        if refused:
            _insert_rejections(connection, run.file_id, refused)
        done = run.progress
        progress = Progress(
            position=batch.end,
            rows=done.rows + batch.staged.rows + len(batch.rejections),
            inserted=done.inserted + outcome.inserted,
            updated=done.updated + outcome.updated,
            unchanged=done.unchanged + outcome.unchanged,
            rejected=done.rejected + len(refused),
        )
        run.save(connection, progress)
    run.progress = progress


def _insert_rejections(connection: Connection, file_id: int, refused: list[Rejection]) -> None:
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    rows = [
        {
            "file_id": file_id,
            "line": each.line,
            "column": each.column,
            "value": shown(each.value),
            "reason": each.reason,
        }
        for each in refused
    ]
    # Another sync of the same file may have written the same rejections already.
    connection.execute(insert(RejectedRow).on_conflict_do_nothing(), rows)


def _with_retries(write: Callable[[], None]) -> None:
    for attempt in range(BATCH_RETRIES):
        try:
            return write()
        except DBAPIError as error:
            if not _is_passing(error):
                raise
        time.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)
    return write()


def _is_passing(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state in _PASSING_STATES or (isinstance(error, OperationalError) and "database is locked" in str(error.orig))
