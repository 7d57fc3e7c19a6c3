"""The start of a task: the last moment to find out that it must not run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery.exceptions import Ignore, Reject
from redis.exceptions import RedisError

from celeriac.results.patience import patiently

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.results.backend import Backend
    from celeriac.task import Task

log = structlog.get_logger(__name__)

#: A slot waits so long for Redis before it returns the message, seconds.
_PATIENCE_SECONDS = 30


def begin(task: Task) -> None:
    """Record the start of the task's current request.

    Raises:
        Ignore: it must not run: its message was given to another worker, or it has come to an end already, was
            cancelled, has been published anew for another try, or runs now from another message.
        Reject: Redis is away; the message is returned.
    """
    request = task.request
    backend = cast("Backend", task.backend)
    reason = _ask(task, backend)
    if reason == "run":
        return
    log.info("task_not_started", task=task.name, task_id=request.id, reason=reason)
    if reason in {"SUCCESS", "FAILURE", "REVOKED"}:
        backend.finish_again(str(request.id), reason, request)
    raise Ignore(reason)


def _ask(task: Task, backend: Backend) -> str:
    request: Any = task.request
    app = cast("CeleriacApp", task.app)
    ignored = task.ignore_result if request.ignore_result is None else request.ignore_result
    meta = {
        "status": "STARTED",
        "result": {"pid": os.getpid(), "hostname": request.hostname},
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": request.id,
    }
    started = None if ignored else backend.stored(meta)
    try:
        return patiently(
            "the start of a task",
            lambda: app.records.begin(
                request.id,
                backend.delivery(request),
                retries=request.retries or 0,
                worker=request.hostname or "",
                started=started,
            ),
            _PATIENCE_SECONDS,
        )
    except (RedisError, OSError) as error:
        log.warning("task_returned", task=task.name, task_id=request.id, error=str(error))
        raise Reject(str(error), requeue=True) from error
