"""Cancel tasks: one by its id, or all that match a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import structlog
from kombu.exceptions import OperationalError

from celeriac.errors import Conflict, InvalidInput, Unavailable
from celeriac.results import TaskFilter, TaskRecord, TaskState
from celeriac.results.listing import WALKED

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.publishing.control import Control
    from celeriac.results.backend import Backend

log = structlog.get_logger(__name__)

#: States of tasks that wait to run, or to run again.
WAITING = (TaskState.PENDING, TaskState.RETRY)

#: States of tasks that have not ended.
UNENDED = (*WAITING, TaskState.STARTED, TaskState.PROGRESS)

#: Tasks that are cancelled in one go; other coroutines run in between.
_CHUNK = 100

#: Ids that an error names.
_SHOWN = 20


@dataclass(frozen=True)
class Cancelled:
    """What came of cancelling by a filter."""

    count: int
    #: What goes on where this has ended; None where no more match.
    cursor: str | None


def cancel(app: CeleriacApp, task_id: str) -> TaskRecord:
    """Cancel a task: one that waits never starts, one that runs is terminated. Its state is `REVOKED` at once.

    Cancelling twice is no error. A running task is told by SIGTERM, so its open transaction is rolled back.

    Raises:
        NotFound: the id is not known.
        Conflict: the task has already ended in another way.
        Unavailable: Redis went away in the middle.
    """
    before = app.records.revoke(task_id, cast("Backend", app.backend).revocation(task_id, "cancelled"))
    if before is None:
        return app.records.require(task_id)  # which says what is wrong
    if before.ready and before is not TaskState.REVOKED:
        msg = f"task {task_id} has already {before.words} and cannot be cancelled"
        raise Conflict(msg)
    try:
        # Once more for one that is cancelled already: the first time may have failed before this line.
        cast("Control", app.control).end([task_id])
    except OperationalError as error:
        msg = f"task {task_id} will not start, but it may still run, for Redis cannot be reached; cancel it again"
        raise Unavailable(msg) from error
    return app.records.require(task_id)


async def cancel_all(app: CeleriacApp, chosen: TaskFilter, *, cursor: str | None = None) -> Cancelled:
    """Cancel the tasks that match and have not ended, the newest first: up to 1,000, of as many that are looked at.

    A task that comes while this is done is left alone, and so is one that begins to run where only states of tasks that
    wait are asked for.

    Args:
        app: the app whose tasks they are.
        chosen: which; of all states, those of tasks that have not ended are meant.
        cursor: where the time before has ended; None to begin with the newest task.

    Raises:
        InvalidInput: a state is one of tasks that have ended, or the cursor is none.
        RedisError: Redis is away, and nothing is cancelled.
        Unavailable: Redis went away in the middle. What was cancelled is not found again by the same filter.
    """
    if set(chosen.states) == set(TaskState):
        chosen = replace(chosen, states=UNENDED)
    for state in chosen.states:
        if state.ready:
            reason = f"such tasks have ended; those that have not are in {', '.join(UNENDED)}"
            raise InvalidInput("state", str(state), reason)
    if_waiting = set(WAITING).issuperset(chosen.states)
    page = await app.listing.page_by(app.line, chosen, limit=WALKED, cursor=cursor)
    backend = cast("Backend", app.backend)
    count, running = 0, list[str]()
    failed: BaseException | None = None
    for start in range(0, len(page.records), _CHUNK):
        chunk = page.records[start : start + _CHUNK]
        results = [backend.revocation(record.task_id, "cancelled") for record in chunk]
        before = await app.records.revoke_all(app.line, zip(chunk, results, strict=True), if_waiting=if_waiting)
        for record, was in zip(chunk, before, strict=True):
            if isinstance(was, BaseException):
                failed = was
                running += [] if record.state in WAITING else [record.task_id]  # it may be cancelled all the same
            elif was is not None and not was.ready and (was in WAITING or not if_waiting):
                count += 1
                # A running task may say of itself that it is to be tried again.
                running += [] if was is TaskState.PENDING else [record.task_id]
        if failed is not None:
            break
    log.info("tasks_cancelled", count=count, running=len(running), queue=chosen.queue, task=chosen.name)
    told = await _tell(app, running)
    if failed is not None or not told:
        msg = f"Redis could not be reached in the middle: {count} tasks are cancelled, the others are not; repeat this"
        if not told:
            msg += f", and cancel each of those again that may still run: {_shown(running)}"
        raise Unavailable(msg) from failed
    return Cancelled(count, page.next_cursor)


async def _tell(app: CeleriacApp, running: Sequence[str]) -> bool:
    try:
        if running:
            await asyncio.to_thread(cast("Control", app.control).end, running)
    except OperationalError:
        return False
    return True


def _shown(task_ids: Sequence[str]) -> str:
    rest = len(task_ids) - _SHOWN
    return ", ".join(task_ids[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
