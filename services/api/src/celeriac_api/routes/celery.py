"""Workers and tasks for those who look after them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from celeriac.contract.problem import fails
from celeriac.contract.tasks import MeasuredTaskPage, MeasuredTaskView, ReconciledView, SubmitView, TaskState
from celeriac.contract.workers import WorkerPage, WorkerView
from celeriac.errors import Conflict
from celeriac.platform import CeleriacApp
from celeriac.registry import WorkerRecord
from celeriac.results import TaskFilter, TaskRecord, view
from celeriac_api.routes.tasks import Cursor, Limit, Moment, TaskId, Text, retry_task

router = APIRouter(prefix="/admin/celery", tags=["administration"])


@router.get("/workers")
async def list_workers(
    request: Request,
    queue: Annotated[Text, Query(description="Only those that consume this queue.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Workers per page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="The `cursor` of the page before.")] = None,
) -> WorkerPage:
    """List the workers that live, by name."""
    found = await asyncio.to_thread(_app(request).registry.workers)
    consuming = [worker for worker in found if queue is None or queue in worker.queues]
    left = [worker for worker in consuming if cursor is None or worker.name > cursor]
    page = left[:limit]
    return WorkerPage(
        items=[_worker(worker) for worker in page],
        total=len(consuming),
        cursor=page[-1].name if len(left) > limit else None,
    )


@router.get("/tasks", response_model_exclude_unset=True)
async def list_measured_tasks(
    request: Request,
    state: Annotated[TaskState | None, Query(description="Only those in this state.")] = None,
    queue: Annotated[Text, Query(description="Only those of this queue.")] = None,
    name: Annotated[Text, Query(description="Only those of this name; 1,000 tasks are looked at for a page.")] = None,
    since: Annotated[Moment, Query(description="Only those submitted at this moment or later.")] = None,
    until: Annotated[Moment, Query(description="Only those submitted before this moment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> MeasuredTaskPage:
    """List tasks, the newest first, with worker and run time; and the names of those that there are."""
    app = _app(request)
    states = TaskState if state is None else (state,)
    chosen = TaskFilter(queue=queue, states=tuple(states), name=name, since=since, until=until)
    page = await app.listing.page_by(app.line, chosen, limit=limit, cursor=cursor)
    tasks = [_task(record) for record in page.records]
    return MeasuredTaskPage(tasks=tasks, registered=app.task_names, next_cursor=page.next_cursor)


@router.post("/tasks/sync")
async def sync_tasks(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Tasks to examine, the newest first.")] = 10_000,
    cursor: Cursor = None,
) -> ReconciledView:
    """Find tasks that wait or run by their record, and whose message is nowhere any more; they become `FAILURE`."""
    reconcile = _app(request).reconcile
    done = await asyncio.to_thread(lambda: reconcile(limit=limit, cursor=cursor))
    return ReconciledView(
        examined=done.examined,
        marked=len(done.lost),
        skipped=done.skipped,
        task_ids=list(done.lost),
        next_cursor=done.next_cursor,
    )


@router.post("/tasks/{task_id}/retry", status_code=202, responses=fails(Conflict))
async def retry_task_as_administrator(task_id: TaskId, request: Request, response: Response) -> SubmitView:
    """Try a task that has failed again, as `POST /tasks/{task_id}/retry` does."""
    return await retry_task(task_id, request, response)


def _app(request: Request) -> CeleriacApp:
    app: CeleriacApp = request.app.state.celeriac
    return app


def _worker(worker: WorkerRecord) -> WorkerView:
    return WorkerView(
        name=worker.name,
        queues=list(worker.queues),
        slots=worker.slots,
        busy=worker.busy,
        state=worker.consumer,
        pool=worker.pool,
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        celery_version=worker.celery_version,
        python_version=worker.python_version,
        started_at=worker.started_at,
        last_heartbeat_at=worker.seen_at,
    )


def _task(record: TaskRecord) -> MeasuredTaskView:
    fields: dict[str, Any] = view(record).model_dump(exclude_unset=True, exclude={"result"})
    if record.started_at and (record.finished_at or not record.state.ready):
        end = datetime.fromisoformat(record.finished_at) if record.finished_at else datetime.now(UTC)
        seconds = (end - datetime.fromisoformat(record.started_at)).total_seconds()
        fields["runtime_seconds"] = round(max(0.0, seconds), 3)
    return MeasuredTaskView(**fields)
