"""Tasks: what a submit asks for, and what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from celeriac.contract.moments import AskedMoment, Moment
from celeriac.contract.numbers import WHOLE
from celeriac.contract.problem import Problem

#: Tasks of one bulk submit.
MAX_BULK = 10_000

_TASK_ID = "5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11"
_SUBMITTED: dict[str, Any] = {"task_id": _TASK_ID, "status_url": f"/tasks/{_TASK_ID}", "mode": "celery"}
_TASK: dict[str, Any] = {
    "task_id": _TASK_ID,
    "name": "examples.add",
    "queue": "default",
    "priority": 5,
    "state": "SUCCESS",
    "status": "finished",
    "ready": True,
    "successful": True,
    "mode": "celery",
    "submitted_at": "2026-01-31T12:00:00.000+00:00",
    "started_at": "2026-01-31T12:00:00.006+00:00",
    "finished_at": "2026-01-31T12:00:00.008+00:00",
    "retries": 0,
    "worker": "default-4711@host",
}


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


class TaskSubmit(BaseModel):
    """A task to submit."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"name": "examples.add", "args": [2, 3], "priority": 9}},
    )

    name: str = Field(min_length=1, max_length=200, description="The task's name.")
    args: list[Any] = Field([], description="Positional arguments.")
    kwargs: dict[str, Any] = Field({}, description="Named arguments.")
    queue: str | None = Field(None, max_length=200, description="Another queue than the task's own.")
    priority: Annotated[int, Field(ge=0, le=9), WHOLE] | None = Field(
        None, description="0 to 9, 9 first; 5 if not given."
    )
    countdown: float | None = Field(None, ge=0, le=366 * 86400, description="Seconds to wait before it may run.")
    eta: AskedMoment | None = Field(None, description="The moment before which it may not run.")
    expires: AskedMoment | Annotated[float, Field(gt=0, le=366 * 86400)] | None = Field(
        None, description="Seconds from now, or the moment, after which it is not run any more."
    )


class BulkSubmit(BaseModel):
    """Tasks to submit in one request."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"tasks": [{"name": "examples.add", "args": [number, 1]} for number in range(1, 3)]}
        },
    )

    tasks: Annotated[list[TaskSubmit], Field(min_length=1, max_length=MAX_BULK, description="In any order.")]


#: Where a page of tasks ended: a submit time, ms since 1970, and a task id.
CURSOR: Final = r"^([0-9]{1,15}):([^\x00]+)$"

#: What names some tasks; `TaskCancel` takes these or `all`.
_FILTERS = ("state", "queue", "name", "since", "until")

_UNENDED = [state.value for state in TaskState if not state.ready]
_NAMES_SOME: dict[str, Any] = {
    "properties": {"all": {"const": False}, "state": {"enum": [*_UNENDED, None]}},
    "anyOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _FILTERS],
}
_NAMES_ALL: dict[str, Any] = {
    "properties": {"all": {"const": True}} | {name: {"type": "null"} for name in _FILTERS},
    "required": ["all"],
}


class TaskCancel(BaseModel):
    """Which tasks to cancel: those to which everything applies that is given, or all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"queue": "default", "state": "PENDING"}, "oneOf": [_NAMES_SOME, _NAMES_ALL]},
    )

    state: TaskState | None = Field(None, description="Only those in this state; not one of tasks that have ended.")
    queue: str | None = Field(None, min_length=1, max_length=200, description="Only those of this queue.")
    name: str | None = Field(None, min_length=1, max_length=200, description="Only those of this name.")
    since: AskedMoment | None = Field(None, description="Only those submitted at this moment or later.")
    until: AskedMoment | None = Field(None, description="Only those submitted before this moment.")
    all: bool = Field(default=False, strict=True, description="All tasks; in the place of the others.")
    cursor: str | None = Field(
        None,
        max_length=300,
        json_schema_extra={"pattern": CURSOR},
        description="The `cursor` of the answer before, to go on.",
    )

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if any(getattr(self, name) is not None for name in _FILTERS) == self.all:
            msg = 'give at least one of state, queue, name, since and until, or "all": true, but not both'
            raise ValueError(msg)
        return self


class CancelledView(BaseModel):
    """The answer to cancelling by a filter."""

    model_config = ConfigDict(json_schema_extra={"example": {"cancelled": 1000, "cursor": f"1769860800000:{_TASK_ID}"}})

    cancelled: int = Field(description="How many tasks were cancelled; those that ran are terminated.")
    cursor: str | None = Field(description="Goes on where this has ended; null where no more match.")

    @property
    def next(self) -> str | None:
        """What goes on; None at the end."""
        return self.cursor


class SubmitView(BaseModel):
    """The answer to a submit."""

    model_config = ConfigDict(json_schema_extra={"example": _SUBMITTED})

    task_id: str
    status_url: str = Field(description="Where to follow the task.")
    mode: str = Field(description="How it runs: `celery`, by a worker.")


class BulkItem(BaseModel):
    """What became of one task of a bulk submit: an id, or an error in its place."""

    task_id: str | None = None
    status_url: str | None = None
    mode: str | None = None
    error: Problem | None = None


class BulkView(BaseModel):
    """The answer to a bulk submit."""

    model_config = ConfigDict(json_schema_extra={"example": {"tasks": [_SUBMITTED], "accepted": 1}})

    tasks: list[BulkItem] = Field(description="In the order of the request.")
    accepted: int = Field(description="How many were accepted.")


class TaskView(BaseModel):
    """A task: fields that do not apply yet are left out."""

    model_config = ConfigDict(json_schema_extra={"example": {**_TASK, "result": 5}})

    task_id: str
    name: str
    queue: str
    priority: int = Field(description="0 to 9, 9 first.")
    state: TaskState
    status: str = Field(description="The state in words.")
    ready: bool = Field(description="Whether the task has ended, one way or another.")
    successful: bool
    current: int | None = Field(None, description="Units of work that are done.")
    total: int | None = Field(None, description="Units of work in all.")
    percent: float | None = None
    message: str | None = Field(None, description="What is being done.")
    result: Any = Field(None, description="What the task returned, once it has succeeded; unless `result_url` is set.")
    result_url: str | None = Field(None, description="Where to get a result that is too large to be shown here.")
    result_bytes: int | None = Field(None, description="How large that is.")
    error: str | None = Field(None, description="Why it failed, or is tried again.")
    traceback: str | None = Field(None, description="Where in its code; for scope `admin`, and in no list.")
    mode: str = Field(description="How it runs: `celery`, by a worker.")
    submitted_at: Moment
    eta: Moment | None = Field(None, description="The moment before which it may not run, while it waits.")
    started_at: Moment | None = None
    finished_at: Moment | None = None
    retries: int
    worker: str | None = None
    parent_id: str | None = Field(None, description="The task that has submitted it.")
    root_id: str | None = Field(None, description="The first task of its workflow.")
    slot: str | None = Field(None, description="The slot of the schedule that it belongs to.")


class TaskChange(BaseModel):
    """A change of a task, as `GET /tasks/events` tells of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "task_id": _TASK_ID,
                "name": "examples.add",
                "queue": "default",
                "state": "SUCCESS",
                "at": "2026-01-31T12:00:00.008+00:00",
            }
        }
    )

    task_id: str
    name: str
    queue: str
    state: TaskState = Field(description="The state since then; it may be the same as before, as with progress.")
    at: Moment


class TaskPageView(BaseModel):
    """A page of tasks, the newest first; `next_cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"tasks": [_TASK], "next_cursor": f"1769860800000:{_TASK_ID}"}}
    )

    tasks: list[TaskView]
    next_cursor: str | None = Field(description="What gets the next page; null at the end.")

    @property
    def entries(self) -> Sequence[TaskView]:
        """What is on the page."""
        return self.tasks

    @property
    def next(self) -> str | None:
        """What gets the next page; None at the end."""
        return self.next_cursor


class MeasuredTaskView(TaskView):
    """A task, and how long it has run."""

    model_config = ConfigDict(json_schema_extra={"example": {**_TASK, "runtime_seconds": 0.002}})

    runtime_seconds: float | None = Field(None, description="From its start to its end, or until now.")


class MeasuredTaskPage(BaseModel):
    """A page of tasks, the newest first, for administrators; `next_cursor` gets the next one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tasks": [{**_TASK, "runtime_seconds": 0.002}],
                "registered": ["examples.add"],
                "next_cursor": f"1769860800000:{_TASK_ID}",
            }
        }
    )

    tasks: list[MeasuredTaskView]
    registered: list[str] = Field(description="The names of all tasks that may be submitted.")
    next_cursor: str | None = Field(description="What gets the next page; null at the end.")

    @property
    def entries(self) -> Sequence[MeasuredTaskView]:
        """What is on the page."""
        return self.tasks

    @property
    def next(self) -> str | None:
        """What gets the next page; None at the end."""
        return self.next_cursor


class ReconciledView(BaseModel):
    """What became of tasks that wait or run by their record."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "examined": 10_000,
                "marked": 1,
                "skipped": 0,
                "task_ids": [_TASK_ID],
                "next_cursor": f"1769860800000:{_TASK_ID}",
            }
        }
    )

    examined: int = Field(description="How many were looked at.")
    marked: int = Field(description="Those whose message was nowhere any more; they are `FAILURE` now.")
    skipped: int = Field(description="Those that are acknowledged before they run, so that nothing can be said.")
    task_ids: list[str] = Field(description="Those that were marked.")
    next_cursor: str | None = Field(description="Goes on with the next ones; null at the end.")

    @property
    def next(self) -> str | None:
        """What goes on; None at the end."""
        return self.next_cursor
