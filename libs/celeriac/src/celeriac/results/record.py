"""What is known of a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from celeriac.contract.tasks import TaskState

#: Field of what Celery's backend stores: the file of a result that is too large for Redis.
FILE_FIELD = "result_file"

EPOCH = datetime.fromtimestamp(0, UTC)

#: What is nested deeper in a result is left out: pydantic writes 255 levels, other parsers read fewer.
MAX_DEPTH: Final = 200
TOO_DEEP: Final = "cannot be shown: it is nested too deeply"


@dataclass(frozen=True)
class ResultFile:
    """A result that lies in the file store."""

    name: str
    #: Its size, JSON.
    bytes: int


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
    #: The task that has submitted it; None where that was no task.
    parent_id: str | None = None
    #: The first task of its workflow; None where that is itself.
    root_id: str | None = None
    #: The slot of the schedule that it belongs to.
    slot: str | None = None
    #: None in a listing, as is the traceback; and where it lies in a file.
    result: Any = None
    #: Where the result is too large for Redis.
    result_file: ResultFile | None = None
    error: str | None = None
    traceback: str | None = None
    #: Progress: `current`, `total`, `percent` and `message`, as far as the task reported them.
    progress: Mapping[str, Any] | None = None
    #: The id of the event that told of its last change.
    event: str = "0-0"


def parse(task_id: str, fields: Mapping[str, str], stored: Mapping[str, Any]) -> TaskRecord:
    """Read a record.

    Args:
        task_id: the task.
        fields: its hash.
        stored: what Celery's backend stored, as far as that was read.
    """
    state = TaskState(fields["state"])
    value = stored.get("result")
    progress = value if state is TaskState.PROGRESS and isinstance(value, Mapping) else None
    failed = state in {TaskState.FAILURE, TaskState.RETRY}
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
        parent_id=fields.get("parent_id"),
        root_id=fields.get("root_id"),
        slot=fields.get("slot"),
        result=value if state is TaskState.SUCCESS else None,
        result_file=result_file(stored) if state is TaskState.SUCCESS else None,
        error=_error(value) if failed else None,
        traceback=stored.get("traceback") if failed else None,
        progress=progress,
        event=fields.get("event", "0-0"),
    )


def result_file(stored: Mapping[str, Any]) -> ResultFile | None:
    """The file that a stored result names; None where it holds all itself."""
    file = stored.get(FILE_FIELD)
    return ResultFile(file["name"], file["bytes"]) if isinstance(file, Mapping) else None


def read_stored(text: str) -> Mapping[str, Any]:
    """Read what Celery's backend stored, so that it can be written as JSON again.

    NaN and the infinities become texts, characters that UTF-8 does not have become replacement characters, and what
    is nested too deeply is left out.
    """
    try:
        stored = json.loads(text, parse_constant=str)
    except RecursionError:
        return {"result": TOO_DEEP}
    # Every level has a bracket of its own, and Celery escapes whatever is not ASCII.
    if text.count("[") + text.count("{") > MAX_DEPTH or r"\ud" in text:
        stored = _writable(stored)
    return stored if isinstance(stored, Mapping) else {}


def _writable(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if depth == MAX_DEPTH:
        return TOO_DEEP if isinstance(value, list | dict) else value
    if isinstance(value, list):
        return [_writable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_writable(name): _writable(item, depth + 1) for name, item in value.items()}
    return value


def _error(value: Any) -> str | None:  # noqa: ANN401 - whatever the backend stored
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    message = value.get("exc_message")
    if isinstance(message, list | tuple):
        message = ", ".join(str(part) for part in message)
    return f"{value.get('exc_type')}: {message}"
