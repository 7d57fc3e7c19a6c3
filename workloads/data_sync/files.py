"""The files that were uploaded: register one, find them, look at their rows and rejections.

`register` checks a file and stores it, `get` and `list_files` find it, `describe` writes it for JSON.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import IO, Any
from uuid import uuid4

from sqlalchemy import literal, select, tuple_

from celeriac.database import Database
from celeriac.errors import InvalidInput, NotFound
from celeriac.storage import FileStore
from workloads.data_sync.contract import FileStatus
from workloads.data_sync.csv_reader import CsvReader
from workloads.data_sync.models import DataFile, GenericRow, RejectedRow, ShopeeOrderItem
from workloads.data_sync.platforms import check_platform, plan_for
from workloads.data_sync.reading import open_reader
from workloads.data_sync.records import shown

_READ_BYTES = 1024 * 1024


def register(
    database: Database,
    store: FileStore,
    name: str,
    platform: str,
    key_columns: Sequence[str] | None,
    content: IO[bytes],
) -> DataFile:
    """Check a file's header and store the file.

    Args:
        database: where the file is recorded.
        store: where its content goes.
        name: what the user calls it.
        platform: one of `contract.PLATFORMS`.
        key_columns: the columns that identify a row; None or empty for the platform's own.
        content: read from its present position to its end; stays open.

    Returns:
        The file, ready to be synced.

    Raises:
        InvalidInput: platform, header or key columns cannot be used; nothing was stored.
        Unavailable: the store is away.
    """
    check_platform(platform)
    if not content.seekable():
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(content, spool, _READ_BYTES)
            spool.seek(0)
            return register(database, store, name, platform, key_columns, spool)
    start = content.tell()
    with closing(open_reader(_Measured(content).stream())) as reader:
        plan_for(platform, reader.columns, key_columns)
        has_lines = isinstance(reader, CsvReader)
    content.seek(start)
    measured = _Measured(content)
    storage_key = f"data-sync/{uuid4()}"
    store.put(storage_key, measured.stream())
    file = DataFile(
        name=shown(name),
        platform=platform,
        key_columns=list(key_columns) if key_columns else None,
        storage_key=storage_key,
        size=measured.size,
        sha256=measured.sha256.hexdigest(),
        lines=measured.lines if has_lines else None,
    )
    try:
        with database.write() as session:
            session.add(file)
    except BaseException:
        store.delete(storage_key)
        raise
    return file


def get(database: Database, file_id: int) -> DataFile:
    """Find a file.

    Raises:
        NotFound: there is none with this id.
    """
    with database.read() as session:
        file = session.get(DataFile, file_id)
    if file is None:
        raise NotFound("file", file_id)
    return file


def list_files(
    database: Database,
    platform: str | None = None,
    status: FileStatus | None = None,
    limit: int = 100,
    after_id: int | None = None,
) -> list[DataFile]:
    """List files, the newest first.

    Args:
        database: where they are recorded.
        platform: only those of this one.
        status: only those in this state.
        limit: how many at most.
        after_id: the id of the last file of the page before.
    """
    query = select(DataFile).order_by(DataFile.id.desc()).limit(limit)
    if platform is not None:
        query = query.where(DataFile.platform == platform)
    if status is not None:
        query = query.where(DataFile.status == status)
    if after_id is not None:
        query = query.where(DataFile.id < after_id)
    with database.read() as session:
        return list(session.scalars(query))


def unsynced(database: Database, platform: str | None = None, limit: int = 100) -> list[DataFile]:
    """List the files that no task has been started for, the oldest first."""
    query = select(DataFile).where(DataFile.status == FileStatus.REGISTERED).order_by(DataFile.id).limit(limit)
    if platform is not None:
        query = query.where(DataFile.platform == platform)
    with database.read() as session:
        return list(session.scalars(query))


def unfinished(database: Database, limit: int = 100) -> list[DataFile]:
    """List the files that a task is to sync, or syncs now, those of the oldest tasks first."""
    waiting = DataFile.status.in_([FileStatus.QUEUED, FileStatus.SYNCING])
    with database.read() as session:
        return list(session.scalars(select(DataFile).where(waiting).order_by(DataFile.id).limit(limit)))


def file_of(database: Database, task_id: str) -> int | None:
    """Find the file that a task was the last to be started for."""
    with database.read() as session:
        return session.scalar(select(DataFile.id).where(DataFile.last_task_id == task_id))


def rows(
    database: Database,
    platform: str,
    file_id: int | None = None,
    limit: int = 100,
    cursor: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List rows of a platform's table in the order of their keys.

    Args:
        database: where the rows are.
        platform: one of `contract.PLATFORMS`.
        file_id: only the rows that this file wrote last.
        limit: how many at most.
        cursor: the `cursor` of the last row of the page before.

    Returns:
        The rows as JSON objects: every column, and `cursor`. Amounts are texts, moments ISO 8601.

    Raises:
        InvalidInput: the platform is unknown.
    """
    check_platform(platform)
    table = GenericRow.__table__ if platform == "generic" else ShopeeOrderItem.__table__
    place = [column for column in table.c if column.primary_key]
    query = select(table).order_by(*place).limit(limit)
    if file_id is not None:
        query = query.where(table.c.file_id == file_id)
    if cursor is not None:
        if len(cursor) != len(place):
            raise InvalidInput("cursor", cursor, "give the cursor of a row as it is")
        query = query.where(tuple_(*place) > tuple_(*map(literal, cursor)))
    with database.read() as session:
        found = session.execute(query).mappings().all()
    names = [column.name for column in place]
    return [
        {**{name: _json(value) for name, value in row.items()}, "cursor": [row[name] for name in names]}
        for row in found
    ]


def rejections(
    database: Database, file_id: int, limit: int = 100, after_line: int | None = None
) -> list[dict[str, Any]]:
    """List what the newest sync of a file refused, in the order of the file.

    Args:
        database: where the rejections are.
        file_id: the file.
        limit: how many at most.
        after_line: the line of the last rejection of the page before.

    Returns:
        JSON objects with `line`, `column`, `value` and `reason`.
    """
    row = RejectedRow
    query = select(row.line, row.column, row.value, row.reason).where(row.file_id == file_id).order_by(row.line)
    if after_line is not None:
        query = query.where(row.line > after_line)
    with database.read() as session:
        return [dict(each) for each in session.execute(query.limit(limit)).mappings()]


def describe(file: DataFile) -> dict[str, Any]:
    """Write a file as a JSON object."""
    return {
        "file_id": file.id,
        "name": file.name,
        "platform": file.platform,
        "key_columns": file.key_columns,
        "size": file.size,
        "sha256": file.sha256,
        "status": str(file.status),
        "rows": file.rows,
        "inserted": file.inserted,
        "updated": file.updated,
        "unchanged": file.unchanged,
        "rejected": file.rejected,
        "last_task_id": file.last_task_id,
        "created_at": _json(file.created_at),
        "synced_at": _json(file.synced_at),
        "error": file.error,
    }


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


class _Measured(io.RawIOBase):
    """A stream that is measured while it is read, and stays open when this is closed."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self.size = 0
        #: Newlines.
        self.lines = 0
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - anything that can be written to
        part = self._content.read(len(buffer))
        self.size += len(part)
        self.lines += part.count(b"\n")
        self.sha256.update(part)
        buffer[: len(part)] = part
        return len(part)

    def stream(self) -> IO[bytes]:
        """Give a buffered stream of it."""
        return io.BufferedReader(self, _READ_BYTES)
