"""Submit, list, follow, cancel and retry tasks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import IO, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic_core import to_json

from celeriac.access import Scope
from celeriac.contract.moments import AskedMoment
from celeriac.contract.problem import Problem, fails
from celeriac.contract.tasks import (
    CURSOR,
    BulkSubmit,
    BulkView,
    CancelledView,
    SubmitView,
    TaskCancel,
    TaskPageView,
    TaskState,
    TaskSubmit,
    TaskView,
)
from celeriac.errors import CeleriacError, Conflict, InvalidInput, TooMany
from celeriac.platform import CeleriacApp
from celeriac.publishing import (
    Submission,
    TaskRequest,
    accepted,
    cancel,
    cancel_all,
    retry,
    status_url,
    submit,
    submit_all,
)
from celeriac.results import TaskFilter, view, view_page
from celeriac_api.direct import Direct, documented, read, read_idempotency_key
from celeriac_api.listeners import wait_for_end

router = APIRouter(prefix="/tasks", tags=["tasks"])

#: What is sent of a result at a time, bytes.
_BLOCK_SIZE = 64 * 1024

_ANY_JSON: dict[str, Any] = {
    "content": {"application/json": {"schema": {"description": "What the task returned.", "example": 5}}}
}

TaskId = Annotated[str, Path(max_length=200, description="What the submit answered as `task_id`.")]

#: Seconds, 60 at most.
_WAIT = re.compile(r"(60(\.0{1,3})?|[1-5]?[0-9](\.[0-9]{1,3})?)s?")

Wait = Annotated[
    str | None,
    Query(
        max_length=20,
        description="Answer when the task has ended, or after so long: seconds, 60 at most, such as 30s.",
        json_schema_extra={"pattern": f"^{_WAIT.pattern}$"},
    ),
]

Text = Annotated[str | None, Query(min_length=1, max_length=200)]
Moment = Annotated[AskedMoment | None, Query()]
Limit = Annotated[int, Query(ge=1, le=1000, description="Tasks per page; one that is not the last may have fewer.")]
Cursor = Annotated[
    str | None,
    Query(max_length=300, json_schema_extra={"pattern": CURSOR}, description="The `next_cursor` of the page before."),
]


async def submit_task(request: Request) -> Response:
    """Submit a task; `Location` and `status_url` say where to follow it."""
    body = await read(request, TaskSubmit)
    app, token = request.app.state.celeriac, request.state.token
    submission = await submit(app, _request(body), by=token, idempotency_key=read_idempotency_key(request))
    return JSONResponse(_accepted(submission), 202, {"Location": status_url(submission.task_id)})


async def submit_tasks(request: Request) -> Response:
    """Submit up to 10,000 tasks; what is wrong with one does not stop the others."""
    idempotency_key = read_idempotency_key(request)
    body = await read(request, BulkSubmit)
    requests = [_request(task) for task in body.tasks]
    app, token = request.app.state.celeriac, request.state.token
    outcomes = await submit_all(app, requests, by=token, idempotency_key=idempotency_key)
    tasks = [_refused(each) if isinstance(each, CeleriacError) else _accepted(each) for each in outcomes]
    return JSONResponse({"tasks": tasks, "accepted": sum("error" not in task for task in tasks)}, 202)


_DIRECT: dict[str, Any] = {
    "methods": ["POST"],
    "status_code": 202,
    "response_model": None,
    "route_class_override": Direct,
}
_SUBMIT_ANSWERS: dict[int | str, dict[str, Any]] = {202: {"model": SubmitView}, **fails(Conflict, TooMany)}
router.add_api_route("", submit_task, responses=_SUBMIT_ANSWERS, openapi_extra=documented(TaskSubmit), **_DIRECT)
_BULK_ANSWERS: dict[int | str, dict[str, Any]] = {202: {"model": BulkView}}
router.add_api_route("/bulk", submit_tasks, responses=_BULK_ANSWERS, openapi_extra=documented(BulkSubmit), **_DIRECT)


def _request(task: TaskSubmit) -> TaskRequest:
    return TaskRequest(**{name: getattr(task, name) for name in task.model_fields_set})


def _accepted(submission: Submission) -> dict[str, Any]:
    task_id = submission.task_id
    return {"task_id": task_id, "status_url": status_url(task_id), "mode": submission.mode}


def _refused(error: CeleriacError) -> dict[str, Any]:
    return {"error": Problem.of(error).model_dump(exclude_none=True)}


@router.get("", response_model_exclude_unset=True)
async def list_tasks(
    request: Request,
    state: Annotated[TaskState | None, Query(description="Only those in this state.")] = None,
    queue: Annotated[Text, Query(description="Only those of this queue.")] = None,
    name: Annotated[Text, Query(description="Only those of this name; 1,000 tasks are looked at for a page.")] = None,
    since: Annotated[Moment, Query(description="Only those submitted at this moment or later.")] = None,
    until: Annotated[Moment, Query(description="Only those submitted before this moment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> TaskPageView:
    """List tasks, the newest first, without their results."""
    app: CeleriacApp = request.app.state.celeriac
    states = TaskState if state is None else (state,)
    chosen = TaskFilter(queue=queue, states=tuple(states), name=name, since=since, until=until)
    return view_page(await app.listing.page_by(app.line, chosen, limit=limit, cursor=cursor))


@router.post("/cancel")
async def cancel_tasks(body: TaskCancel, request: Request) -> CancelledView:
    """Cancel the tasks that match and have not ended, the newest first; up to 1,000, of as many that are looked at."""
    states = TaskState if body.state is None else (body.state,)
    chosen = TaskFilter(queue=body.queue, states=tuple(states), name=body.name, since=body.since, until=body.until)
    cancelled = await cancel_all(request.app.state.celeriac, chosen, cursor=body.cursor)
    return CancelledView(cancelled=cancelled.count, cursor=cancelled.cursor)


@router.get("/{task_id}", response_model_exclude_unset=True)
async def show_task(task_id: TaskId, request: Request, wait: Wait = None) -> TaskView:
    """Show a task's state, progress and result; with `wait` when it has ended, or the time is up."""
    record = await wait_for_end(request, task_id, _seconds(wait))
    return view(record, traceback=record.traceback if is_admin(request) else None)


@router.get("/{task_id}/result", response_model=None, responses={200: _ANY_JSON, **fails(Conflict)})
async def show_result(task_id: TaskId, request: Request) -> Response:
    """Get what a task has returned, of any size, as JSON; 409 for a task that has not succeeded."""
    app: CeleriacApp = request.app.state.celeriac
    record = await asyncio.to_thread(app.records.require, task_id)
    if record.state is not TaskState.SUCCESS:
        msg = f"task {task_id} is {record.state} ({record.state.words}); only one that has succeeded has a result"
        raise Conflict(msg)
    if record.result_file is None:
        return Response(to_json(record.result), media_type="application/json")
    file = await asyncio.to_thread(app.result_files.open, record.result_file.name)
    size = {"Content-Length": str(record.result_file.bytes)}
    return StreamingResponse(_blocks(file), media_type="application/json", headers=size)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK_SIZE):
            yield block


@router.delete("/{task_id}", response_model_exclude_unset=True, responses=fails(Conflict))
async def cancel_task(task_id: TaskId, request: Request) -> TaskView:
    """Cancel a task: one that waits never starts, one that runs is terminated."""
    return view(await asyncio.to_thread(cancel, request.app.state.celeriac, task_id))


@router.post("/{task_id}/retry", status_code=202, responses=fails(Conflict))
async def retry_task(task_id: TaskId, request: Request, response: Response) -> SubmitView:
    """Try a task that has failed again, under its id and with all its tries before it."""
    record = await asyncio.to_thread(retry, request.app.state.celeriac, task_id)
    return accepted(response, Submission(record.task_id, record.mode))


def _seconds(wait: str | None) -> float:
    if wait is None:
        return 0
    if not _WAIT.fullmatch(wait):
        raise InvalidInput("wait", wait, "give seconds from 0 to 60, such as 30s")
    return float(wait.removesuffix("s"))


def is_admin(request: Request) -> bool:
    """Whether the token of a request has scope `admin`."""
    return Scope.ADMIN in request.state.token.scopes
