"""The record of each task, a hash in Redis that expires."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from typing import Any, cast

from redis import Redis

from celeriac.broker import Keys
from celeriac.broker.caller import Caller
from celeriac.broker.leases import Delivery
from celeriac.broker.publication import Companion
from celeriac.errors import NotFound


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
    #: The moment before which it may not run, while it has not been started.
    eta: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    retries: int = 0
    worker: str | None = None
    result: Any = None
    error: str | None = None
    #: Progress: `current`, `total`, `percent` and `message`, as far as the task reported them.
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredResult:
    """What `AsyncResult` is to find."""

    #: JSON, as Celery writes it.
    text: str
    #: Seconds until it expires; None for never.
    expires_seconds: int | None


class Records:
    """Reads and writes task records.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
        expires_seconds: how long the record of a finished task is kept.
        unfinished_expires_seconds: how long any other is kept after its last change.
    """

    def __init__(self, client: Redis, keys: Keys, *, expires_seconds: int, unfinished_expires_seconds: int) -> None:
        self._client = client
        self._keys = keys
        self._expires_seconds = expires_seconds
        self._unfinished_expires_seconds = unfinished_expires_seconds
        self._caller = Caller(client)
        self._add = client.register_script(_script("add"))
        self._begin = client.register_script(_script("begin"))
        self._store = client.register_script(_script("store"))
        self._revoke = client.register_script(_script("revoke"))

    def new(
        self, task_id: str, *, name: str, queue: str, priority: int, mode: str = "celery", eta: str | None = None
    ) -> Companion:
        """The record of a task that is published with its message; one that is delayed is kept so much longer.

        Args:
            task_id: the task.
            name: its name.
            queue: its queue.
            priority: 0 to 9, 9 first.
            mode: how it runs.
            eta: the moment before which it may not run, ISO 8601 with its offset from UTC; None for none.
        """
        fields: dict[str, str | int] = {
            "name": name,
            "queue": queue,
            "priority": priority,
            "mode": mode,
            "state": TaskState.PENDING,
            "submitted_at": now_iso(),
        }
        delay = 0.0
        if eta is not None:
            fields["eta"] = eta
            delay = max(0.0, datetime.fromisoformat(eta).timestamp() - time.time())
        return Companion(self._keys.task(task_id), self._unfinished_expires_seconds + int(delay), fields)

    def add(self, task_id: str, *, name: str, queue: str, priority: int) -> None:
        """Record a task that is ended without having been published, unless it has a record."""
        record = self.new(task_id, name=name, queue=queue, priority=priority)
        fields = [part for field in record.fields.items() for part in field]
        self._add(keys=[record.key], args=[record.expires_seconds, *fields])

    def get(self, task_id: str) -> TaskRecord | None:
        """Read a task's record and result; None for an id that is not known, or no longer."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.task(task_id))
            pipe.get(self._keys.result(task_id))
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
        state = cast("str | None", self._client.hget(self._keys.task(task_id), "state"))
        return TaskState(state) if state else None

    def begin(
        self, task_id: str, delivery: Delivery | None, *, retries: int, worker: str, started: StoredResult | None
    ) -> str:
        """Record the start of a task, unless there is a reason not to run it.

        Args:
            task_id: the task.
            delivery: the lease that it runs under; None where its message is acknowledged early.
            retries: how often it has been tried before.
            worker: who runs it.
            started: what `AsyncResult` finds while it runs; None for a task whose results are ignored.

        Returns:
            `run`; or why not, as `begin.lua` says.
        """
        queue, tag = (delivery.queue, delivery.tag) if delivery else ("", "")
        text, expires = (started.text, started.expires_seconds) if started else ("", None)
        return str(
            self._caller.call(
                self._begin,
                [
                    self._keys.task(task_id),
                    self._keys.result(task_id),
                    self._keys.leases(queue),
                    self._keys.started,
                    self._keys.inflight,
                ],
                [
                    tag,
                    retries,
                    now_iso(),
                    worker,
                    self._unfinished_expires_seconds,
                    text,
                    expires or self._unfinished_expires_seconds,
                ],
            )
        )

    def store(
        self,
        task_id: str,
        state: str,
        *,
        delivery: Delivery | None = None,
        worker: str | None = None,
        retries: int = 0,
        next_try: int | None = None,
        result: StoredResult | None = None,
        acknowledges: bool = False,
    ) -> str:
        """Record a change of state and store a result, both or neither.

        Args:
            task_id: the task.
            state: its new state; one of the task's own, set by `update_state`, has no place in the record.
            delivery: the lease that it ran under, which must still stand; None to check none.
            worker: the worker that reports it.
            retries: how often it has been tried again.
            next_try: the try that has been published in this one's place, whose message supersedes it; None for none.
            result: what `AsyncResult` is to find; None for a task whose results are ignored.
            acknowledges: end the delivery in the same step.

        Returns:
            `stored`; or why not, as `store.lua` says.
        """
        known = state in TaskState.__members__
        ready = known and TaskState(state).ready
        fields: list[str | int] = ["retries", retries]
        if worker:
            fields += ["worker", worker]
        if ready:
            fields += ["finished_at", now_iso()]
        if next_try is not None:
            fields += ["next_try", next_try]
        queue, tag = (delivery.queue, delivery.tag) if delivery else ("", "")
        text, expires = (result.text, result.expires_seconds) if result else ("", None)
        return str(
            self._caller.call(
                self._store,
                [
                    self._keys.task(task_id),
                    self._keys.result(task_id),
                    self._keys.leases(queue),
                    self._keys.inflight,
                    self._keys.started,
                ],
                [
                    tag,
                    state if known else "",
                    self._expires_seconds if ready else self._unfinished_expires_seconds,
                    text,
                    "" if expires is None else expires,
                    int(acknowledges and delivery is not None),
                    *fields,
                ],
            )
        )

    def revoke(self, task_id: str, *, if_waiting: bool = False) -> TaskState | None:
        """Cancel a task that has not ended: from now on it is `REVOKED` and no worker starts it.

        Args:
            task_id: the task.
            if_waiting: leave one that runs alone; one of which nothing is known may still come, and is not started.

        Returns:
            The state before; None for an id that is not known.
        """
        queue = str(self._client.hget(self._keys.task(task_id), "queue") or "")
        state = self._revoke(
            keys=[
                self._keys.task(task_id),
                self._keys.revoked,
                self._keys.delayed(queue),
                self._keys.delayed_messages(queue),
            ],
            args=[task_id, self._unfinished_expires_seconds, now_iso(), int(if_waiting)],
        )
        return TaskState(cast("str", state)) if state else None


def now_iso() -> str:
    """The time now, as records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
        eta=fields.get("eta") if state is TaskState.PENDING else None,
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
