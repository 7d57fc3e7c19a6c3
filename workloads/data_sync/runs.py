"""The record of a sync: where a task may go on, and that only its newest execution does.

A task may be delivered twice: its worker was taken for dead and was not. Each execution writes a text of its own into
the run's row at its start; every commit carries the condition that the text is still there. What an older execution
does after that is rolled back as a whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from celeriac.database import Database
from celeriac.errors import Conflict, InvalidInput, NotFound
from workloads.data_sync.contract import FileStatus
from workloads.data_sync.models import DataFile, RejectedRow, SyncRun
from workloads.data_sync.records import shown

#: Rejections deleted in one transaction: a few milliseconds, for SQLite makes others wait meanwhile.
_DELETED_AT_ONCE = 5_000


class Superseded(Conflict):
    """Another execution of the same task took over; this one must end without a trace."""

    title = "Superseded"
    code = "superseded"
    way_out = "Nothing: the other execution goes on."


@dataclass(slots=True)
class Progress:
    """What a run has committed."""

    position: int = 0
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0

    def counts(self) -> dict[str, int]:
        """The counts by name; `rows` is the sum of the others."""
        return {
            "rows": self.rows,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "rejected": self.rejected,
        }


class Run:
    """This execution of a task that syncs a file.

    Attributes:
        progress: what is committed, by this execution and those before it.
        finished: whether an execution before this one did all of it.
    """

    def __init__(self, task_id: str, file_id: int) -> None:
        self.task_id = task_id
        self.file_id = file_id
        self.progress = Progress()
        self.finished = False
        self._execution = str(uuid4())

    def start(self, database: Database) -> None:
        """Take the run over, or begin a new one without the rejections of earlier syncs.

        Raises:
            InvalidInput: the task has a run of another file.
            NotFound: there is no such file.
        """
        if not self._take_over(database):
            _forget_rejections(database, self.file_id)
            with suppress(IntegrityError), database.write() as session:
                row = {"task_id": self.task_id, "file_id": self.file_id, "execution": self._execution}
                session.execute(insert(SyncRun).values(row))
            if not self._take_over(database):
                raise NotFound("file", self.file_id)

    def _take_over(self, database: Database) -> bool:
        with database.write() as session:
            taken = session.execute(
                update(SyncRun)
                .where(SyncRun.task_id == self.task_id)
                .values(execution=self._execution)
                .returning(SyncRun)
            ).scalar_one_or_none()
            if taken is None:
                return False
            if taken.file_id != self.file_id:
                reason = f"this task syncs file {taken.file_id}; start another task for file {self.file_id}"
                raise InvalidInput("task_id", self.task_id, reason)
            self.progress = _progress(taken)
            self.finished = taken.finished_at is not None
            if not self.finished:
                state = {"status": FileStatus.SYNCING, "last_task_id": self.task_id, "error": None}
                session.execute(
                    update(DataFile).where(DataFile.id == self.file_id).values(**state, **self.progress.counts())
                )
            return True

    def save(self, connection: Connection, progress: Progress) -> None:
        """Record what the caller's transaction adds.

        Raises:
            Superseded: another execution took over; the caller must roll back.
        """
        self._update_fenced(connection, {"position": progress.position, **progress.counts()})

    def finish(self, database: Database) -> None:
        """Record that all of the file is synced.

        Raises:
            Superseded: another execution took over.
        """
        now = datetime.now(UTC)
        with database.write() as session:
            self._update_fenced(session.connection(), {"finished_at": now})
            session.execute(
                update(DataFile)
                .where(DataFile.id == self.file_id, DataFile.last_task_id == self.task_id)
                .values(status=FileStatus.SYNCED, synced_at=now, error=None, **self.progress.counts())
            )

    def _update_fenced(self, connection: Connection, values: dict[str, object]) -> None:
        result = connection.execute(
            update(SyncRun).where(SyncRun.task_id == self.task_id, SyncRun.execution == self._execution).values(values)
        )
        if not result.rowcount:
            msg = f"task {self.task_id}: another execution of it took over"
            raise Superseded(msg)


def mark_queued(database: Database, file_id: int, task_id: str) -> None:
    """Record that a task is to sync a file; without effect when that has begun, or another task syncs it now."""
    with database.write() as session:
        session.execute(
            update(DataFile)
            .where(
                DataFile.id == file_id,
                DataFile.status != FileStatus.SYNCING,
                func.coalesce(DataFile.last_task_id, "") != task_id,
            )
            .values(status=FileStatus.QUEUED, last_task_id=task_id, error=None)
        )


def mark_failed(database: Database, file_id: int, task_id: str, error: str) -> None:
    """Record that a task gave up on a file; without effect when a newer task has begun, or this one finished.

    Args:
        database: where the file is.
        file_id: the file.
        task_id: the task.
        error: why, for the user.
    """
    _mark(database, file_id, task_id, FileStatus.FAILED, error)


def mark_cancelled(database: Database, file_id: int, task_id: str) -> None:
    """Record that a task was cancelled; what it committed stays. Without effect as for `mark_failed`."""
    _mark(database, file_id, task_id, FileStatus.CANCELLED, None)


def _mark(database: Database, file_id: int, task_id: str, status: FileStatus, error: str | None) -> None:
    with database.write() as session:
        run = session.get(SyncRun, task_id)
        counts = _progress(run).counts() if run else {}
        session.execute(
            update(DataFile)
            .where(DataFile.id == file_id, DataFile.last_task_id == task_id, DataFile.status != FileStatus.SYNCED)
            .values(status=status, error=error and shown(error), **counts)
        )


def _progress(run: SyncRun) -> Progress:
    return Progress(run.position, run.rows, run.inserted, run.updated, run.unchanged, run.rejected)


def _forget_rejections(database: Database, file_id: int) -> None:
    of_file = RejectedRow.file_id == file_id
    some = select(RejectedRow.line).where(of_file).order_by(RejectedRow.line).limit(_DELETED_AT_ONCE)
    while True:
        with database.write() as session:
            lines = session.scalars(some).all()
            if not lines:
                return
            session.execute(delete(RejectedRow).where(of_file, RejectedRow.line <= lines[-1]))
