"""Cancel a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.exceptions import TaskRevokedError
from kombu.exceptions import OperationalError

from celeriac.errors import Conflict, Unavailable
from celeriac.results import TaskRecord, TaskState

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


def cancel(app: CeleriacApp, task_id: str) -> TaskRecord:
    """Cancel a task: one that waits never starts, one that runs is terminated. Its state is `REVOKED` at once.

    Cancelling twice is no error. A running task is told by SIGTERM, so its open transaction is rolled back.

    Raises:
        NotFound: the id is not known.
        Conflict: the task has already ended in another way.
        Unavailable: Redis went away in the middle.
    """
    before = app.records.revoke(task_id)
    if before is None:
        return app.records.require(task_id)  # which says what is wrong
    if before.ready and before is not TaskState.REVOKED:
        msg = f"task {task_id} has already {before.words} and cannot be cancelled"
        raise Conflict(msg)
    try:
        # Once more for one that is cancelled already: the first time may have failed between these lines.
        app.backend.store_result(task_id, TaskRevokedError("cancelled"), TaskState.REVOKED)
        app.control.revoke(task_id, terminate=True)
    except OperationalError as error:
        msg = f"task {task_id} will not start, but it may still run, for Redis cannot be reached; cancel it again"
        raise Unavailable(msg) from error
    return app.records.require(task_id)
