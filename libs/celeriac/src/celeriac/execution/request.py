"""A message on its way through a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import structlog
from billiard.einfo import ExceptionInfo
from celery.exceptions import Ignore, InvalidTaskError, Reject, Retry
from celery.worker import request as celery_request

from celeriac.broker.messages import ERROR_PROPERTY, ETA_HEADER, QUEUE_PROPERTY, due_ms
from celeriac.execution.metrics import RUN_SECONDS, TASKS, WAIT_SECONDS
from celeriac.execution.pace import PACE
from celeriac.publishing.headers import SUBMITTED_HEADER
from celeriac.results.backend import Backend, acknowledged_with_result

log = structlog.get_logger(__name__)


class Request(celery_request.Request):
    """Celery's request, which is measured: how long it waited, how long it ran, how it ended.

    And which always ends: whatever Celery stumbles over beside the task itself, its message is not held forever.
    """

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        """Undo the short cuts of the class that Celery makes for each task, which lead past what is below."""
        super().__init_subclass__(**options)
        for name in ("execute_using_pool", "on_success"):
            if name in vars(cls):
                delattr(cls, name)

    def __init__(
        self,
        message: Any,  # noqa: ANN401 - kombu.Message
        *,
        body: Any = None,  # noqa: ANN401
        headers: dict[str, Any] | None = None,
        decoded: bool = False,
        **options: Any,  # noqa: ANN401 - Celery's
    ) -> None:
        _check(message.headers if headers is None else headers, body if decoded else message.payload)
        super().__init__(message, body=body, headers=headers, decoded=decoded, **options)
        headers = self._request_dict
        if headers.get("eta") is None:
            headers["eta"] = headers.get(ETA_HEADER)
        self._outcome = "SUCCESS"
        self._counted = False
        self._queue = message.properties.get(QUEUE_PROPERTY) or (message.delivery_info or {}).get("routing_key") or ""

    def execute_using_pool(self, pool: Any, **options: Any) -> Any:  # noqa: ANN401 - Celery's signature
        """Begin, in a pool that tells of each end."""
        telling: Any = pool if pool.uses_semaphore else _TellingPool(pool)
        return super().execute_using_pool(telling, **options)

    def on_accepted(self, pid: Any, time_accepted: float) -> None:  # noqa: ANN401
        """Note that a slot has begun with it."""
        try:
            super().on_accepted(pid, time_accepted)
        except Exception:  # with prefork the task runs all the same; in the other pools it would never come to an end
            log.exception("acceptance_failed", task=self.name, task_id=self.id)
        due = due_ms(self._request_dict) or 0
        submitted = self._request_dict.get(SUBMITTED_HEADER)
        since_ms = max(due, submitted if isinstance(submitted, int) else 0)
        if since_ms:
            WAIT_SECONDS.labels(self.name, self._queue).observe(max(0.0, time.time() - since_ms / 1000))

    def on_success(self, outcome: Any, **options: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Note how it ended, in whatever way: `outcome` is that of Celery's tracer, or what was raised in its place."""
        if isinstance(outcome, ExceptionInfo):
            return self.on_failure(outcome)
        with self._ending():
            return super().on_success(outcome, **options)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Note that it has not succeeded."""
        self._outcome = _outcome(exc_info.exception)
        # Should the message be returned for the last time, or rejected, its dead letter says why.
        self._message.properties[ERROR_PROPERTY] = repr(_cause(exc_info.exception))
        with self._ending():
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """Note that it took too long."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        self._outcome = "FAILURE"
        with self._ending():
            super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: ANN401, FBT001
        self._outcome = "REVOKED"
        with self._ending():
            super()._announce_revoked(reason, terminated, signum, expired)

    def acknowledge(self) -> None:
        """Acknowledge the message: at the task's end, or at its start if the task says so."""
        if self._is_acknowledged_with_result():
            self._message.channel.forget(self._message)
            self.acknowledged = True
        else:
            super().acknowledge()

    def _is_acknowledged_with_result(self) -> bool:
        return (
            self._outcome == "SUCCESS"
            and not self.acknowledged
            and self.task.acks_late
            and isinstance(self.task.backend, Backend)
            and self.task.backend.delivery(self._context) is not None
            and acknowledged_with_result(self._context)
        )

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Count the end; a message that is still held then, since something went wrong, is given up."""
        try:
            yield
        except Exception as error:
            log.exception("task_not_settled", task=self.name, task_id=self.id)
            if not self.acknowledged:
                self._outcome = "REJECTED"
                self._message.properties[ERROR_PROPERTY] = repr(error)
                self.reject(requeue=True)
        self._count()

    def _count(self) -> None:
        if self._counted:
            return
        self._counted = True
        if self._outcome:
            TASKS.labels(self.name, self._queue, self._outcome).inc()
        if self.time_start is not None:
            seconds = max(0.0, time.time() - self.time_start)
            RUN_SECONDS.labels(self.name, self._queue).observe(seconds)
            PACE.ran(seconds)


class _TellingPool:
    """A pool of threads or greenlets, or none; of what its tracer raises it tells, as prefork does by itself.

    Celery's own raise it where nobody looks.
    """

    def __init__(self, pool: Any) -> None:  # noqa: ANN401 - celery.concurrency.base.BasePool
        self._pool = pool

    def apply_async(self, trace: Callable[..., Any], **options: Any) -> Any:  # noqa: ANN401 - Celery's signature
        return self._pool.apply_async(partial(_told, trace), **options)


def _told(trace: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's signature
    try:
        return trace(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a hook of the task may raise anything
        return ExceptionInfo()


def _check(headers: dict[str, Any], payload: Any) -> None:  # noqa: ANN401 - any JSON
    """Refuse what Celery would stumble over later, when it can only lose the message or end the worker.

    Raises:
        InvalidTaskError: a part of the message is not what Celery writes.
    """
    task_id, limits = headers.get("id"), headers.get("timelimit")
    if not isinstance(task_id, str) or not task_id:
        _refuse("its id is no text", task_id)
    if limits is not None and not (_is_list(limits, int | float | None) and len(limits) == 2):
        _refuse("its time limits are not two numbers", limits)
    if not isinstance(payload, list | tuple) or len(payload) != 3:
        _refuse("its body is not arguments, named arguments and links", payload)
    args, kwargs, links = payload
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict) or not isinstance(links, dict | None):
        _refuse("its body is not a list, an object and an object", payload)
    for name in ("callbacks", "errbacks", "chain"):
        if links and links.get(name) is not None and not _is_list(links[name], dict):
            _refuse(f"its {name} are no list of signatures", links[name])
    if links and not isinstance(links.get("chord"), dict | None):
        _refuse("its chord is no signature", links["chord"])


def _is_list(value: Any, of: Any) -> bool:  # noqa: ANN401 - any JSON, any type
    return isinstance(value, list | tuple) and all(isinstance(part, of) for part in value)


def _refuse(what: str, value: Any) -> NoReturn:  # noqa: ANN401 - any JSON
    msg = f"{what}: {value!r:.100}"
    raise InvalidTaskError(msg)


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error


def _outcome(error: BaseException) -> str:
    error = _cause(error)
    if isinstance(error, Retry):
        return "RETRY"
    if isinstance(error, Ignore):
        return ""
    return "REJECTED" if isinstance(error, Reject) and error.requeue else "FAILURE"
