"""A task as the HTTP API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.contract.numbers import MAX_ID
from celeriac.contract.tasks import TaskPageView, TaskState, TaskView
from celeriac.results.listing import TaskPage
from celeriac.results.record import TaskRecord


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
    fields |= _progress(record.progress or {})
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


def _progress(reported: Mapping[str, Any]) -> dict[str, Any]:
    """What a task has reported of its progress, as far as it is what `Task.progress` reports: code may report more."""
    shown: dict[str, Any] = {}
    for name in ("current", "total", "percent"):
        value = reported.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MAX_ID:
            continue
        if name == "percent" or value == int(value):
            shown[name] = value
    if isinstance(reported.get("message"), str):
        shown["message"] = reported["message"]
    return shown


def view_page(page: TaskPage) -> TaskPageView:
    """Show a page of tasks; their results are not in it."""
    tasks = [view(record) for record in page.records]
    for task in tasks:
        task.model_fields_set.discard("result")
    return TaskPageView(tasks=tasks, next_cursor=page.next_cursor)
