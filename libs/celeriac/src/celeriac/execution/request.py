"""A message on its way through a worker."""

from __future__ import annotations

import time
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from celery.worker import request as celery_request

from celeriac.broker.messages import ETA_HEADER, QUEUE_PROPERTY, due_ms
from celeriac.execution.metrics import RUN_SECONDS, TASKS, WAIT_SECONDS
from celeriac.publishing.headers import SUBMITTED_HEADER


class Request(celery_request.Request):
    """Celery's request, which is measured: how long it waited, how long it ran, how it ended."""

    def __init__(self, message: Any, **options: Any) -> None:  # noqa: ANN401 - kombu.Message, Celery's options
        super().__init__(message, **options)
        headers = self._request_dict
        if headers.get("eta") is None:
            headers["eta"] = headers.get(ETA_HEADER)
        self._outcome = "SUCCESS"
        self._counted = False
        self._queue = message.properties.get(QUEUE_PROPERTY) or (message.delivery_info or {}).get("routing_key") or ""

    def on_accepted(self, pid: Any, time_accepted: float) -> None:  # noqa: ANN401
        """Note that a slot has begun with it."""
        super().on_accepted(pid, time_accepted)
        due = due_ms(self._request_dict) or 0
        since_ms = max(due, self._request_dict.get(SUBMITTED_HEADER) or 0)
        if since_ms:
            WAIT_SECONDS.labels(self.name, self._queue).observe(max(0.0, time.time() - since_ms / 1000))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Note that it has not succeeded."""
        self._outcome = _outcome(exc_info.exception)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """Note that it took too long."""
        if not soft:
            self._outcome = "FAILURE"
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: ANN401, FBT001
        self._outcome = "REVOKED"
        super()._announce_revoked(reason, terminated, signum, expired)

    def acknowledge(self) -> None:
        """Acknowledge the message: at the task's end, or at its start if the task says so."""
        super().acknowledge()
        self._count()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Return the message, or make it a dead letter."""
        super().reject(requeue=requeue)
        self._count()

    def _count(self) -> None:
        if self._counted:
            return
        self._counted = True
        if self._outcome:
            TASKS.labels(self.name, self._queue, self._outcome).inc()
        if self.time_start is not None and self.task.acks_late:
            RUN_SECONDS.labels(self.name, self._queue).observe(max(0.0, time.time() - self.time_start))


def _outcome(error: BaseException) -> str:
    error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
    if isinstance(error, Retry):
        return "RETRY"
    if isinstance(error, Ignore):
        return ""
    return "REJECTED" if isinstance(error, Reject) and error.requeue else "FAILURE"
