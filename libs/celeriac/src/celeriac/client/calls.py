"""The calls of the API, each once: what it is sent, and what it answers.

The names are those of the operations in the OpenAPI document. A call is sent by `Client.send`, or by the method of the
same name; `Client.each` and `Client.pages` send those of lists for page after page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel

from celeriac.client.call import Call, answer_of
from celeriac.contract.audit import ActPage
from celeriac.contract.dead_letters import (
    DeadLetterDetail,
    DeadLetterPage,
    DeadLetterView,
    DroppedView,
    ReplayedView,
    ReplayView,
)
from celeriac.contract.health import HealthView, LiveView, ReadyView
from celeriac.contract.queues import PurgedView, QueueList, QueueView, ScaledView
from celeriac.contract.redis import RedisView
from celeriac.contract.tasks import (
    BulkView,
    CancelledView,
    MeasuredTaskPage,
    ReconciledView,
    SubmitView,
    TaskPageView,
    TaskSubmit,
    TaskView,
)
from celeriac.contract.workers import WorkerPage

#: How much longer a request about many tasks or messages may take, seconds.
MANY_SECONDS: Final = 600

M = TypeVar("M", bound=BaseModel)

#: A moment: aware, or ISO 8601 with an offset from UTC.
Moment = datetime | str


def submit_task(
    name: str,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    countdown: float | None = None,
    eta: Moment | None = None,
    expires: float | Moment | None = None,
    idempotency_key: str | None = None,
) -> Call[SubmitView]:
    """Submit a task.

    Args:
        name: the task's name.
        args: positional arguments, JSON.
        kwargs: named arguments, JSON.
        queue: another queue than the task's own.
        priority: 0 to 9, 9 first.
        countdown: seconds to wait before it may run.
        eta: the moment before which it may not run.
        expires: seconds from now, or the moment, after which it is not run any more.
        idempotency_key: a name for this submit, for programs that may submit the same again; one is made up for each
            call otherwise, so that a call that is sent twice submits once.
    """
    body = {"name": name, "args": list(args), "kwargs": dict(kwargs or {})}
    body |= given(queue=queue, priority=priority, countdown=countdown, eta=eta, expires=expires)
    return Call(
        "POST", "/tasks", answer_of(SubmitView), body=body, headers=submit_key(idempotency_key), repeatable=True
    )


def submit_tasks(tasks: Sequence[TaskSubmit], *, idempotency_key: str | None = None) -> Call[BulkView]:
    """Submit up to 10,000 tasks; what is wrong with one does not stop the others.

    Args:
        tasks: the tasks.
        idempotency_key: a name for this submit, as for `submit_task`.
    """
    return Call(
        "POST",
        "/tasks/bulk",
        answer_of(BulkView),
        body={"tasks": [task.model_dump(mode="json", exclude_unset=True) for task in tasks]},
        headers=submit_key(idempotency_key),
        repeatable=True,
        extra_seconds=MANY_SECONDS,
    )


def list_tasks(
    *,
    state: str | None = None,
    queue: str | None = None,
    name: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[TaskPageView]:
    """List tasks, the newest first, without their results.

    Args:
        state: only those in this state.
        queue: only those of this queue.
        name: only those of this name.
        since: only those submitted at this moment or later.
        until: only those submitted before this moment.
        limit: tasks per page, 1,000 at most.
        cursor: the `next_cursor` of the page before.
    """
    asked = given(state=state, queue=queue, name=name, since=since, until=until, limit=limit, cursor=cursor)
    return _get("/tasks", TaskPageView, asked)


def show_task(task_id: str, *, wait: float | None = None) -> Call[TaskView]:
    """Show a task's state, progress and result.

    Args:
        task_id: the task.
        wait: answer when it has ended, or after so long: seconds, 60 at most.
    """
    asked = {} if wait is None else {"wait": f"{wait:.3f}s"}
    return _get(task_path(task_id), TaskView, asked, extra_seconds=wait or 0)


def show_result(task_id: str) -> Call[Any]:
    """Get what a task has returned, of any size."""
    return Call("GET", f"{task_path(task_id)}/result", httpx.Response.json, repeatable=True)


def cancel_task(task_id: str) -> Call[TaskView]:
    """Cancel a task: one that waits never starts, one that runs is terminated."""
    return Call("DELETE", task_path(task_id), answer_of(TaskView), repeatable=True)


def cancel_tasks(
    *,
    state: str | None = None,
    queue: str | None = None,
    name: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    everything: bool = False,
    cursor: str | None = None,
) -> Call[CancelledView]:
    """Cancel the tasks that match and have not ended, 1,000 in a request: `client.pages` sends as many as it takes.

    Args:
        state: only those in this state.
        queue: only those of this queue.
        name: only those of this name.
        since: only those submitted at this moment or later.
        until: only those submitted before this moment.
        everything: all of them, in the place of the others.
        cursor: the `cursor` of the answer before.
    """
    body = given(state=state, queue=queue, name=name, since=since, until=until, cursor=cursor) | {"all": everything}
    return _post("/tasks/cancel", CancelledView, body, repeatable=True, extra_seconds=MANY_SECONDS)


def retry_task(task_id: str) -> Call[SubmitView]:
    """Try a task that has failed again, under its id and with all its tries before it."""
    return _post(f"{task_path(task_id)}/retry", SubmitView)


def follow_task(task_id: str) -> Call[None]:
    """Follow a task until it has ended; the clients' method of this name gives its changes."""
    return _stream(f"{task_path(task_id)}/events", {})


def follow_tasks(*, state: str | None = None, queue: str | None = None, name: str | None = None) -> Call[None]:
    """Follow all tasks; the clients' method of this name gives their changes.

    Args:
        state: only changes to this state.
        queue: only tasks of this queue.
        name: only tasks of this name.
    """
    return _stream("/tasks/events", given(state=state, queue=queue, name=name))


def list_queues() -> Call[QueueList]:
    """List all queues with what is in them and who works on them."""
    return _get("/admin/queues", QueueList)


def show_queue(queue: str) -> Call[QueueView]:
    """Show what is in a queue and who works on it."""
    return _get(_queue_path(queue), QueueView)


def pause_queue(queue: str) -> Call[QueueView]:
    """Let workers take nothing more from a queue; what runs goes on, and submits are accepted."""
    return _post(f"{_queue_path(queue)}/pause", QueueView, repeatable=True)


def resume_queue(queue: str) -> Call[QueueView]:
    """Let workers take from a paused queue again."""
    return _post(f"{_queue_path(queue)}/resume", QueueView, repeatable=True)


def purge_queue(queue: str) -> Call[PurgedView]:
    """Drop what waits in a queue, delayed tasks included, and cancel its tasks; what workers hold stays."""
    return _post(f"{_queue_path(queue)}/purge", PurgedView, extra_seconds=MANY_SECONDS)


def scale_queue(queue: str, replicas: int) -> Call[ScaledView]:
    """Ask for a number of worker pods of a queue, where the platform runs in a cluster.

    Args:
        queue: the queue.
        replicas: worker pods; 0 for none.
    """
    return _post(f"{_queue_path(queue)}/scale", ScaledView, {"replicas": replicas})


def list_workers(*, queue: str | None = None, limit: int | None = None, cursor: str | None = None) -> Call[WorkerPage]:
    """List the workers that live, by name.

    Args:
        queue: only those that consume this queue.
        limit: workers per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    return _get("/admin/celery/workers", WorkerPage, given(queue=queue, limit=limit, cursor=cursor))


def list_measured_tasks(
    *,
    state: str | None = None,
    queue: str | None = None,
    name: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[MeasuredTaskPage]:
    """List tasks, the newest first, with worker and run time, and the names of those that there are.

    Args:
        state: only those in this state.
        queue: only those of this queue.
        name: only those of this name.
        since: only those submitted at this moment or later.
        until: only those submitted before this moment.
        limit: tasks per page, 1,000 at most.
        cursor: the `next_cursor` of the page before.
    """
    asked = given(state=state, queue=queue, name=name, since=since, until=until, limit=limit, cursor=cursor)
    return _get("/admin/celery/tasks", MeasuredTaskPage, asked)


def sync_tasks(*, limit: int | None = None, cursor: str | None = None) -> Call[ReconciledView]:
    """Find tasks that wait or run by their record, and whose message is nowhere any more; they become `FAILURE`.

    Args:
        limit: tasks to examine, 10,000 at most: `client.pages` examines all.
        cursor: the `next_cursor` of the answer before.
    """
    return Call(
        "POST",
        "/admin/celery/tasks/sync",
        answer_of(ReconciledView),
        params=given(limit=limit, cursor=cursor),
        repeatable=True,
        extra_seconds=MANY_SECONDS,
    )


def retry_task_as_administrator(task_id: str) -> Call[SubmitView]:
    """Try a task that has failed again, with a token of scope `admin`."""
    return _post(f"/admin/celery/tasks/{quote(task_id, safe='')}/retry", SubmitView)


def list_dead_letters(
    *,
    queue: str | None = None,
    task: str | None = None,
    reason: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[DeadLetterPage]:
    """List messages that were given up, the newest first.

    Args:
        queue: only those of this queue.
        task: only those of tasks of this name.
        reason: only those whose reason contains this.
        limit: entries per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    asked = given(queue=queue, task=task, reason=reason, limit=limit, cursor=cursor)
    return _get(_DEAD_LETTERS, DeadLetterPage, asked)


def show_dead_letter(tag: str) -> Call[DeadLetterDetail]:
    """Show a dead letter with its message."""
    return _get(_dead_letter_path(tag), DeadLetterDetail)


def replay_dead_letter(tag: str) -> Call[ReplayView]:
    """Put a dead letter's message back into its queue; its task has all its deliveries before it."""
    return _post(f"{_dead_letter_path(tag)}/replay", ReplayView)


def drop_dead_letter(tag: str) -> Call[DeadLetterView]:
    """Forget a dead letter; its task stays failed."""
    return Call("DELETE", _dead_letter_path(tag), answer_of(DeadLetterView))


def replay_dead_letters(
    *, queue: str | None = None, task: str | None = None, reason: str | None = None
) -> Call[ReplayedView]:
    """Put all dead letters that match back into their queues, those that died first at first; without a filter, all.

    Args:
        queue: only those of this queue.
        task: only those of tasks of this name.
        reason: only those whose reason contains this.
    """
    body = given(queue=queue, task=task, reason=reason)
    return _post(f"{_DEAD_LETTERS}/replay", ReplayedView, body, extra_seconds=MANY_SECONDS)


def drop_dead_letters(
    *, queue: str | None = None, task: str | None = None, reason: str | None = None
) -> Call[DroppedView]:
    """Forget all dead letters that match; their tasks stay failed. Without a filter, all.

    Args:
        queue: only those of this queue.
        task: only those of tasks of this name.
        reason: only those whose reason contains this.
    """
    body = given(queue=queue, task=task, reason=reason)
    return _post(f"{_DEAD_LETTERS}/drop", DroppedView, body, extra_seconds=MANY_SECONDS)


def show_redis() -> Call[RedisView]:
    """Show which Redis there is, and how full."""
    return _get("/admin/redis", RedisView)


def list_acts(*, limit: int | None = None, cursor: str | None = None) -> Call[ActPage]:
    """List administrative acts, the newest first: changes below `/admin`, and tokens made and revoked.

    Args:
        limit: entries per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    return _get("/admin/audit", ActPage, given(limit=limit, cursor=cursor))


def health() -> Call[HealthView]:
    """Ask how the platform is; an unhealthy one answers, too."""
    answers = frozenset({int(httpx.codes.SERVICE_UNAVAILABLE)})
    return Call("GET", "/health", answer_of(HealthView), repeatable=True, answers=answers)


def live() -> Call[LiveView]:
    """Ask whether the API's process answers."""
    return _get("/health/live", LiveView)


def ready() -> Call[ReadyView]:
    """Ask whether the API takes requests, and who works."""
    return _get("/health/ready", ReadyView)


def metrics() -> Call[str]:
    """Get the metrics of the API, of queues and of workers, as Prometheus text."""
    return Call("GET", "/metrics", lambda response: response.text, repeatable=True)


def given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON and queries hold, and moments
    """Those of some values that were given, as they are sent."""
    return {name: _sent(value) for name, value in values.items() if value is not None}


def submit_key(idempotency_key: str | None) -> dict[str, str]:
    """The header of a submit that may be sent twice; a key is made up where none was given."""
    return {"Idempotency-Key": idempotency_key or str(uuid4())}


def task_path(task_id: str) -> str:
    """Where a task is."""
    return f"/tasks/{quote(task_id, safe='')}"


_DEAD_LETTERS: Final = "/admin/dead-letters"


def _queue_path(queue: str) -> str:
    return f"/admin/queues/{quote(queue, safe='')}"


def _dead_letter_path(tag: str) -> str:
    return f"{_DEAD_LETTERS}/{quote(tag, safe='')}"


def _sent(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def _get(path: str, model: type[M], params: Mapping[str, Any] | None = None, *, extra_seconds: float = 0) -> Call[M]:
    return Call("GET", path, answer_of(model), params=params or {}, repeatable=True, extra_seconds=extra_seconds)


def _post(
    path: str,
    model: type[M],
    body: Mapping[str, Any] | None = None,
    *,
    repeatable: bool = False,
    extra_seconds: float = 0,
) -> Call[M]:
    return Call("POST", path, answer_of(model), body=body, repeatable=repeatable, extra_seconds=extra_seconds)


def _stream(path: str, params: Mapping[str, Any]) -> Call[None]:
    return Call("GET", path, lambda _response: None, params=params, repeatable=True)
