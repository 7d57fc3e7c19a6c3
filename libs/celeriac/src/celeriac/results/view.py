"""A task as the HTTP API shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from celeriac.results.listing import TaskPage
from celeriac.results.record import TaskRecord, TaskState


class TaskView(BaseModel):
    """A task: fields that do not apply yet are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "task_id": "5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11",
                "name": "examples.add",
                "queue": "default",
                "priority": 5,
                "state": "SUCCESS",
                "status": "finished",
                "ready": True,
                "successful": True,
                "result": 5,
                "mode": "celery",
                "submitted_at": "2026-01-31T12:00:00.000+00:00",
                "started_at": "2026-01-31T12:00:00.006+00:00",
                "finished_at": "2026-01-31T12:00:00.008+00:00",
                "retries": 0,
                "worker": "default-4711@host",
            }
        }
    )

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
    submitted_at: str
    eta: str | None = Field(None, description="The moment before which it may not run, while it waits.")
    started_at: str | None = None
    finished_at: str | None = None
    retries: int
    worker: str | None = None
    parent_id: str | None = Field(None, description="The task that has submitted it.")
    root_id: str | None = Field(None, description="The first task of its workflow.")
    slot: str | None = Field(None, description="The slot of the schedule that it belongs to.")


class TaskPageView(BaseModel):
    """A page of tasks, the newest first; `next_cursor` gets the next one, and is null at the end."""

    tasks: list[TaskView]
    next_cursor: str | None


def view(record: TaskRecord, *, traceback: str | None = None) -> TaskView:
    """Show a task; only the fields that apply are set.

    Args:
        record: the task.
        traceback: that of its error, for those who may see the code.
    """
    fields: dict[str, Any] = {
        "task_id": record.task_id,
        "name": record.name,
        "queue": record.queue,
        "priority": record.priority,
        "state": record.state,
        "status": record.state.words,
        "ready": record.state.ready,
        "successful": record.state is TaskState.SUCCESS,
        "mode": record.mode,
        "submitted_at": record.submitted_at,
        "retries": record.retries,
    }
    progress = record.progress or {}
    fields |= {name: progress[name] for name in ("current", "total", "percent", "message") if name in progress}
    optional = {
        "error": record.error,
        "eta": record.eta,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "worker": record.worker,
        "parent_id": record.parent_id,
        "root_id": record.root_id,
        "slot": record.slot,
        "traceback": traceback,
    }
    fields |= {name: value for name, value in optional.items() if value is not None}
    if record.result_file is not None:
        fields |= {"result_url": f"/tasks/{record.task_id}/result", "result_bytes": record.result_file.bytes}
    elif record.state is TaskState.SUCCESS:
        fields["result"] = record.result
    return TaskView(**fields)


def view_page(page: TaskPage) -> TaskPageView:
    """Show a page of tasks; their results are not in it."""
    tasks = [view(record) for record in page.records]
    for task in tasks:
        task.model_fields_set.discard("result")
    return TaskPageView(tasks=tasks, next_cursor=page.next_cursor)
