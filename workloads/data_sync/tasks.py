"""The tasks: one file, a batch of files, and the files that were left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from celery import shared_task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from sqlalchemy.exc import OperationalError

from celeriac import Conflict, NotFound, Task, TemporaryError, Unavailable
from celeriac.process import deferred_signals
from celeriac.publishing import cancel
from celeriac.results import TaskState
from workloads.data_sync import batch
from workloads.data_sync.files import unfinished, unsynced
from workloads.data_sync.runs import Superseded, mark_cancelled, mark_failed, mark_queued
from workloads.data_sync.sync import sync_file

#: A sync may take 29 minutes, seconds; a minute later it is killed.
SOFT_TIME_LIMIT = 1740
TIME_LIMIT = 1800

#: Cancelling and the soft time limit: they wait for the end of a batch of rows.
INTERRUPTIONS = (signal.SIGTERM, signal.SIGUSR1)

#: How often a batch looks after its files, seconds.
WATCH_SECONDS = 0.5

#: A file that nobody has synced for so long after its upload was left behind.
LEFT_BEHIND_AFTER = timedelta(minutes=30)

_AWAY = (TemporaryError, Unavailable, OperationalError)


@shared_task(
    name="data_sync.sync_file",
    bind=True,
    base=Task,
    autoretry_for=_AWAY,
    soft_time_limit=SOFT_TIME_LIMIT,
    time_limit=TIME_LIMIT,
)
def sync_one(self: Task, file_id: int) -> dict[str, Any]:
    """Sync one file; killed and delivered again, it goes on after the last committed batch."""
    platform, task_id = self.platform, str(self.request.id)
    try:
        with deferred_signals(*INTERRUPTIONS) as safe_point:

            def report(current: int, total: int | None) -> None:
                safe_point()
                self.progress(current, total)

            return sync_file(platform.database, platform.files, file_id, task_id, report)
    except Superseded as error:
        raise Ignore(str(error)) from error  # the other execution of this task gives the result
    except SystemExit:
        if platform.records.state(task_id) is TaskState.REVOKED:
            mark_cancelled(platform.database, file_id, task_id)
        raise


@shared_task(
    name="data_sync.sync_batch",
    bind=True,
    base=Task,
    max_retries=None,  # watching goes on as long as the files need
    autoretry_for=_AWAY,
    soft_time_limit=SOFT_TIME_LIMIT,
    time_limit=TIME_LIMIT,
)
def sync_batch(self: Task, file_ids: Sequence[int], priority: int | None = None) -> dict[str, Any]:
    """Sync files side by side, each in a task of its own, and report how many have ended.

    Delivered again, it finds the tasks that it has started: their ids are derived from its own.
    """
    platform = self.platform
    options: dict[str, Any] = {} if priority is None else {"priority": priority}
    children = {str(uuid5(NAMESPACE_OID, f"{self.request.id}/{file_id}")): file_id for file_id in file_ids}
    try:
        with deferred_signals(*INTERRUPTIONS) as safe_point:
            for task_id, file_id in children.items():
                if platform.records.state(task_id) is None:
                    mark_queued(platform.database, file_id, task_id)
                    sync_one.apply_async((file_id,), task_id=task_id, **options)
            while True:
                safe_point()
                states = {task_id: platform.records.state(task_id) for task_id in children}
                ended = sum(state is None or state.ready for state in states.values())
                self.progress(ended, len(children), f"{ended} of {len(children)} files")
                if ended == len(children):
                    break
                time.sleep(WATCH_SECONDS)
    except SoftTimeLimitExceeded:
        # The files go on by themselves; only the watching starts anew.
        raise self.retry(countdown=1) from None
    except SystemExit:
        if platform.records.state(str(self.request.id)) is TaskState.REVOKED:
            for task_id, file_id in children.items():
                with suppress(Conflict, NotFound):  # it has ended by itself
                    cancel(platform, task_id)
                    mark_cancelled(platform.database, file_id, task_id)
        raise
    return batch.summary(platform.database, children)


@shared_task(name="data_sync.sync_left_behind", bind=True, base=Task)
def sync_left_behind(self: Task, limit: int = 100) -> dict[str, Any]:
    """Sync the files that were uploaded a while ago and that nobody has synced, or whose task got lost."""
    database = self.platform.database
    before = datetime.now(UTC) - LEFT_BEHIND_AFTER
    found = [file.id for file in unsynced(database, limit=limit) if file.created_at < before]
    for file in unfinished(database, limit):
        task_id = file.last_task_id or ""
        state = self.platform.records.state(task_id)
        if state is None:
            found.append(file.id)
        elif state is TaskState.REVOKED:
            mark_cancelled(database, file.id, task_id)
        elif state is TaskState.FAILURE:  # killed at its time limit, it could not say so itself
            mark_failed(database, file.id, task_id, f"task {task_id} failed; its state has the reason")
    if not found:
        return {"files": 0}
    return {"files": len(found), "task_id": str(sync_batch.delay(found).id)}
