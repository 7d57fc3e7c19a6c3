"""Files in the database, in chunks: for clusters without a shared volume or S3.

An object's chunks are written one by one, each in a transaction of its own, under an upload id that nobody knows; one
last transaction points the key at that upload. So an object is visible whole or not at all, replacing one is atomic, a
put that was killed leaves only chunks that nobody can see, and no writer waits longer than one chunk takes.

A file that is open while its object is replaced or deleted raises `OSError` at its next chunk; it never mixes two
versions. Chunks that belong to no object are removed a day later, by whichever put comes next.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import IO, Final
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Index, LargeBinary, Select, String, Uuid, delete, exists, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Mapped, Session, mapped_column

from celeriac.database import Base, Database, UtcDateTime
from celeriac.errors import NotFound, Unavailable
from celeriac.storage.chunks import ChunkReader, read_chunks
from celeriac.storage.keys import MAX_KEY_LENGTH, check_key

#: Bytes of a chunk: what one transaction writes.
CHUNK_SIZE: Final = 1024 * 1024
#: Chunks that one transaction removes: SQLite takes about 6 ms for each.
REMOVED_AT_ONCE: Final = 4
#: Chunks that one put removes of those that belong to no object.
SWEPT_AT_ONCE: Final = 256
#: When a chunk that belongs to no object is taken for abandoned.
ABANDONED_AFTER: Final = timedelta(hours=24)
#: How long a put may take: half of the above, so that no sweep, on whichever clock, meets an upload still running.
PUT_TIMEOUT: Final = timedelta(hours=12)


class StoredFile(Base):
    """An object: the upload that its key points at."""

    __tablename__ = "celeriac_file"

    key: Mapped[str] = mapped_column(String(MAX_KEY_LENGTH), primary_key=True)
    upload_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StoredChunk(Base):
    """One chunk of an upload, which a key may point at, not yet, or no longer."""

    __tablename__ = "celeriac_file_chunk"
    __table_args__ = (Index(None, "created_at", "upload_id"),)

    upload_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class DatabaseStore:
    """Objects in the tables `celeriac_file` and `celeriac_file_chunk`.

    Args:
        database: one whose migrations have run.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, key: str, content: IO[bytes]) -> int:
        """Store an object, whole or not at all; see `FileStore.put`."""
        check_key(key)
        self._sweep()
        upload_id = uuid4()
        deadline = datetime.now(UTC) + PUT_TIMEOUT
        size = 0
        try:
            for number, data in enumerate(read_chunks(content, CHUNK_SIZE)):
                _check_deadline(key, deadline)
                with self._write() as session:
                    session.add(
                        StoredChunk(upload_id=upload_id, number=number, created_at=datetime.now(UTC), data=data)
                    )
                size += len(data)
            _check_deadline(key, deadline)
        except BaseException:
            with suppress(Unavailable):
                self._remove(upload_id)
            raise
        # When this fails, its commit may be done and only the answer lost: the chunks stay, and the sweep decides.
        replaced = self._point(key, upload_id, size)
        if replaced is not None:
            # The new object is there already; what cannot be removed now is for the sweep.
            with suppress(Unavailable):
                self._remove(replaced)
        return size

    def open(self, key: str) -> IO[bytes]:
        """Open an object for reading; see `FileStore.open`."""
        check_key(key)
        with self._read() as session:
            found = session.get(StoredFile, key)
        if found is None:
            raise NotFound("file", key)
        upload_id = found.upload_id

        def fetch(number: int) -> bytes:
            with self._read() as session:
                data = session.scalar(
                    select(StoredChunk.data).where(StoredChunk.upload_id == upload_id, StoredChunk.number == number)
                )
            if data is None:
                msg = "deleted or replaced while it was being read; open it again"
                raise OSError(errno.ESTALE, msg, key)
            return data

        return io.BufferedReader(ChunkReader(found.size, CHUNK_SIZE, fetch))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        check_key(key)
        with self._write() as session:
            upload_id = session.scalar(delete(StoredFile).where(StoredFile.key == key).returning(StoredFile.upload_id))
        if upload_id is not None:
            self._remove(upload_id)

    def _point(self, key: str, upload_id: UUID, size: int) -> UUID | None:
        """Point the key at a finished upload; gives the upload that it pointed at before."""
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        values = {"upload_id": upload_id, "size": size, "created_at": datetime.now(UTC)}
        with self._write() as session:
            before = session.scalar(select(StoredFile.upload_id).where(StoredFile.key == key).with_for_update())
            session.execute(
                insert(StoredFile).values(key=key, **values).on_conflict_do_update(index_elements=["key"], set_=values)
            )
        return before

    def _remove(self, upload_id: UUID) -> None:
        mine = select(StoredChunk.upload_id, StoredChunk.number).where(StoredChunk.upload_id == upload_id)
        while self._remove_chunks(mine.limit(REMOVED_AT_ONCE)):
            pass

    def _sweep(self) -> None:
        """Remove abandoned chunks: those that are old and that no key points at."""
        abandoned = (
            select(StoredChunk.upload_id, StoredChunk.number)
            .where(StoredChunk.created_at < datetime.now(UTC) - ABANDONED_AFTER)
            .where(~exists().where(StoredFile.upload_id == StoredChunk.upload_id))
            .limit(REMOVED_AT_ONCE)
        )
        for _ in range(SWEPT_AT_ONCE // REMOVED_AT_ONCE):
            if not self._remove_chunks(abandoned):
                return

    def _remove_chunks(self, which: Select[UUID, int]) -> bool:
        """Remove the chunks that a query names; says whether there were any."""
        # Read first: a writer would lock SQLite even where there is nothing to remove.
        with self._read() as session:
            found = [tuple(row) for row in session.execute(which)]
        if not found:
            return False
        with self._write() as session:
            session.execute(delete(StoredChunk).where(tuple_(StoredChunk.upload_id, StoredChunk.number).in_(found)))
        return True

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with _translated(), self._database.read() as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with _translated(), self._database.write() as session:
            yield session


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        msg = f"the file store db: is away: {reason}"
        raise Unavailable(msg) from error


def _check_deadline(key: str, deadline: datetime) -> None:
    if datetime.now(UTC) > deadline:
        msg = f"file {key!r} was not stored: its upload took longer than {PUT_TIMEOUT}"
        raise Unavailable(msg)
