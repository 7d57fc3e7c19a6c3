"""The record of each task, a hash in Redis that expires."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from typing import Any, cast

from redis import Redis

from celeriac.errors import NotFound

REVOKED_KEY = "celeriac:revoked"

#: Where Celery's Redis backend keeps results.
RESULT_KEY_PREFIX = "celery-task-meta-"


class TaskState(StrEnum):
    """The states of a task, Celery's and `PROGRESS`."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def ready(self) -> bool:
        """Whether the task has ended, one way or another."""
        return self in {TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED}

    @property
    def words(self) -> str:
        """The state for people."""
        return _WORDS[self]


_WORDS = {
    TaskState.PENDING: "waiting to run",
    TaskState.STARTED: "running",
    TaskState.PROGRESS: "running",
    TaskState.RETRY: "waiting to run again",
    TaskState.SUCCESS: "finished",
    TaskState.FAILURE: "failed",
    TaskState.REVOKED: "cancelled",
}


@dataclass(frozen=True)
class TaskRecord:
    """What is known of a task."""

    task_id: str
    name: str
    queue: str
    #: 0 to 9, 9 first.
    priority: int
    state: TaskState
    #: How it runs: `celery`.
    mode: str
    #: ISO 8601, UTC, as are the other times.
    submitted_at: str
    started_at: str | None = None
    finished_at: str | None = None
    retries: int = 0
    worker: str | None = None
    result: Any = None
    error: str | None = None
    #: Progress: `current`, `total`, `percent` and `message`, as far as the task reported them.
    progress: Mapping[str, Any] | None = None


class Records:
    """Reads and writes task records.

    Args:
        client: a client of the platform's Redis that decodes responses.
        expires_seconds: how long the record of a finished task is kept.
        unfinished_expires_seconds: how long any other is kept after its last change.
    """

    def __init__(self, client: Redis, *, expires_seconds: int, unfinished_expires_seconds: int) -> None:
        self._client = client
        self._expires_seconds = expires_seconds
        self._unfinished_expires_seconds = unfinished_expires_seconds
        self._store_state = client.register_script(_script("store_state"))
        self._revoke = client.register_script(_script("revoke"))

    def create(
        self, task_id: str, *, name: str, queue: str, priority: int, mode: str = "celery", delay_seconds: int = 0
    ) -> None:
        """Record a task before its message is published; one that is delayed is kept so much longer."""
        key = _key(task_id)
        fields: dict[str | bytes, str | int] = {
            "name": name,
            "queue": queue,
            "priority": priority,
            "mode": mode,
            "state": TaskState.PENDING,
            "submitted_at": now_iso(),
        }
        with self._client.pipeline() as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=cast("Any", fields))
            pipe.expire(key, self._unfinished_expires_seconds + delay_seconds)
            pipe.execute()

    def get(self, task_id: str) -> TaskRecord | None:
        """Read a task's record and result; None for an id that is not known, or no longer."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(_key(task_id))
            pipe.get(RESULT_KEY_PREFIX + task_id)
            fields, stored = pipe.execute()
        if "state" not in fields:
            return None
        return _parse(task_id, fields, json.loads(stored) if stored else {})

    def require(self, task_id: str) -> TaskRecord:
        """Read a task's record and result.

        Raises:
            NotFound: the id is not known, or no longer.
        """
        record = self.get(task_id)
        if record is None:
            raise NotFound("task", task_id, "it was never submitted here, or its record has expired")
        return record

    def state(self, task_id: str) -> TaskState | None:
        """Read only the state."""
        state = cast("str | None", self._client.hget(_key(task_id), "state"))
        return TaskState(state) if state else None

    def store_state(self, task_id: str, state: str, *, worker: str | None = None, retries: int = 0) -> bool:
        """Record a change of state; False where the task has succeeded or was cancelled, or is not known.

        Args:
            task_id: the task.
            state: its new state.
            worker: the worker that reports it.
            retries: how often it has been tried again.
        """
        if state not in TaskState.__members__:
            return True  # a state of the task's own, set by update_state, has no place in the record
        ready = TaskState(state).ready
        expires = self._expires_seconds if ready else self._unfinished_expires_seconds
        fields: list[str | int] = ["retries", retries]
        if worker:
            fields += ["worker", worker]
        if ready:
            fields += ["finished_at", now_iso()]
        elif state == TaskState.STARTED:
            fields += ["started_at", now_iso()]
        return bool(self._store_state(keys=[_key(task_id)], args=[state, expires, *fields]))

    def revoke(self, task_id: str) -> TaskState | None:
        """Cancel a task that has not ended: from now on it is `REVOKED` and no worker starts it.

        Returns:
            The state before; None for an id that is not known.
        """
        state = self._revoke(
            keys=[_key(task_id), REVOKED_KEY], args=[task_id, self._unfinished_expires_seconds, now_iso()]
        )
        return TaskState(cast("str", state)) if state else None

    def is_revoked(self, task_id: str) -> bool:
        """Whether a task was cancelled: asked by workers before they start it."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zscore(REVOKED_KEY, task_id)
            pipe.time()
            expires, (now, _) = pipe.execute()
        return expires is not None and expires > now


def now_iso() -> str:
    """The time now, as records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _key(task_id: str) -> str:
    return f"celeriac:task:{task_id}"


def _script(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text()


def _parse(task_id: str, fields: Mapping[str, str], stored: Mapping[str, Any]) -> TaskRecord:
    state = TaskState(fields["state"])
    value = stored.get("result")
    progress = value if state is TaskState.PROGRESS and isinstance(value, Mapping) else None
    return TaskRecord(
        task_id=task_id,
        name=fields["name"],
        queue=fields["queue"],
        priority=int(fields["priority"]),
        state=state,
        mode=fields["mode"],
        submitted_at=fields["submitted_at"],
        started_at=fields.get("started_at"),
        finished_at=fields.get("finished_at"),
        retries=int(fields.get("retries", 0)),
        worker=fields.get("worker"),
        result=value if state is TaskState.SUCCESS else None,
        error=_error(value) if state in {TaskState.FAILURE, TaskState.RETRY} else None,
        progress=progress,
    )


def _error(value: Any) -> str | None:  # noqa: ANN401 - whatever the backend stored
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    message = value.get("exc_message")
    if isinstance(message, list | tuple):
        message = ", ".join(str(part) for part in message)
    return f"{value.get('exc_type')}: {message}"
