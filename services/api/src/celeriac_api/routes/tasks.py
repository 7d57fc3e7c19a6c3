"""Submit, list, follow, cancel and retry tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import IO, Annotated, Any, Self

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import to_json

from celeriac.access import Scope
from celeriac.errors import CeleriacError, Conflict
from celeriac.platform import CeleriacApp
from celeriac.publishing import (
    Submission,
    SubmitView,
    TaskRequest,
    accepted,
    cancel,
    cancel_all,
    retry,
    status_url,
    submit,
    submit_all,
)
from celeriac.results import TaskFilter, TaskPageView, TaskState, TaskView, view, view_page
from celeriac_api.bodies import documented, read
from celeriac_api.problems import Problem

router = APIRouter(prefix="/tasks", tags=["tasks"])

#: Tasks of one bulk submit.
MAX_BULK = 10_000

#: What is sent of a result at a time, bytes.
_BLOCK_SIZE = 64 * 1024

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A name for this submit: repeated by the same token within a day it answers the task of the first.",
    ),
]

TaskId = Annotated[str, Path(max_length=200, description="What the submit answered as `task_id`.")]

Text = Annotated[str | None, Query(min_length=1, max_length=200)]
Moment = Annotated[AwareDatetime | None, Query()]
Limit = Annotated[int, Query(ge=1, le=1000, description="Tasks per page; one that is not the last may have fewer.")]
Cursor = Annotated[str | None, Query(max_length=300, description="The `next_cursor` of the page before.")]


class TaskSubmit(BaseModel):
    """A task to submit."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "examples.add", "args": [2, 3], "priority": 9}}
    )

    name: str = Field(max_length=200, description="The task's name.")
    args: list[Any] = Field([], description="Positional arguments.")
    kwargs: dict[str, Any] = Field({}, description="Named arguments.")
    queue: str | None = Field(None, description="Another queue than the task's own.")
    priority: int | None = Field(None, ge=0, le=9, strict=True, description="0 to 9, 9 first; 5 if not given.")
    countdown: float | None = Field(None, ge=0, le=366 * 86400, description="Seconds to wait before it may run.")
    eta: AwareDatetime | None = Field(None, description="The moment before which it may not run.")
    expires: AwareDatetime | Annotated[float, Field(gt=0, le=366 * 86400)] | None = Field(
        None, description="Seconds from now, or the moment, after which it is not run any more."
    )

    def request(self) -> TaskRequest:
        """What the library takes."""
        return TaskRequest(**{name: getattr(self, name) for name in self.model_fields_set})


class BulkSubmit(BaseModel):
    """Tasks to submit in one request."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[TaskSubmit], Field(min_length=1, max_length=MAX_BULK, description="In any order.")]


class BulkItem(BaseModel):
    """What became of one task of a bulk submit: an id, or an error in its place."""

    task_id: str | None = None
    status_url: str | None = None
    mode: str | None = None
    error: Problem | None = None


class BulkView(BaseModel):
    """The answer to a bulk submit."""

    tasks: list[BulkItem] = Field(description="In the order of the request.")
    accepted: int = Field(description="How many were accepted.")


class TaskCancel(BaseModel):
    """Which tasks to cancel: those to which everything applies that is given, or all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"queue": "default", "state": "PENDING"}})

    state: TaskState | None = Field(None, description="Only those in this state; not one of tasks that have ended.")
    queue: str | None = Field(None, min_length=1, max_length=200, description="Only those of this queue.")
    name: str | None = Field(None, min_length=1, max_length=200, description="Only those of this name.")
    since: AwareDatetime | None = Field(None, description="Only those submitted at this moment or later.")
    until: AwareDatetime | None = Field(None, description="Only those submitted before this moment.")
    all: bool = Field(default=False, strict=True, description="All tasks; in the place of the others.")
    cursor: str | None = Field(None, max_length=300, description="The `cursor` of the answer before, to go on.")

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        filters = (self.state, self.queue, self.name, self.since, self.until)
        if any(part is not None for part in filters) == self.all:
            msg = 'give at least one of state, queue, name, since and until, or "all": true, but not both'
            raise ValueError(msg)
        return self

    def chosen(self) -> TaskFilter:
        """What the library takes."""
        states = TaskState if self.state is None else (self.state,)
        return TaskFilter(queue=self.queue, states=tuple(states), name=self.name, since=self.since, until=self.until)


class CancelledView(BaseModel):
    """The answer to cancelling by a filter."""

    cancelled: int = Field(description="How many tasks were cancelled; those that ran are terminated.")
    cursor: str | None = Field(description="Goes on where this has ended; null where no more match.")


@router.post(
    "",
    status_code=202,
    response_model=None,
    responses={202: {"model": SubmitView}},
    openapi_extra=documented(TaskSubmit),
)
async def submit_task(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Submit a task; `Location` and `status_url` say where to follow it."""
    body = await read(request, TaskSubmit)
    app, token = request.app.state.celeriac, request.state.token
    submission = await submit(app, body.request(), by=token, idempotency_key=idempotency_key)
    return JSONResponse(_accepted(submission), 202, {"Location": status_url(submission.task_id)})


@router.post(
    "/bulk",
    status_code=202,
    response_model=None,
    responses={202: {"model": BulkView}},
    openapi_extra=documented(BulkSubmit),
)
async def submit_tasks(request: Request) -> Response:
    """Submit up to 10,000 tasks; what is wrong with one does not stop the others."""
    body = await read(request, BulkSubmit)
    requests = [task.request() for task in body.tasks]
    outcomes = await submit_all(request.app.state.celeriac, requests, by=request.state.token)
    tasks = [_refused(each) if isinstance(each, CeleriacError) else _accepted(each) for each in outcomes]
    return JSONResponse({"tasks": tasks, "accepted": sum("error" not in task for task in tasks)}, 202)


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
    cancelled = await cancel_all(request.app.state.celeriac, body.chosen(), cursor=body.cursor)
    return CancelledView(cancelled=cancelled.count, cursor=cancelled.cursor)


@router.get("/{task_id}", response_model_exclude_unset=True)
async def show_task(task_id: TaskId, request: Request) -> TaskView:
    """Show a task's state, progress and result."""
    app: CeleriacApp = request.app.state.celeriac
    record = await asyncio.to_thread(app.records.require, task_id)
    return view(record, traceback=record.traceback if _is_admin(request) else None)


@router.get("/{task_id}/result", response_model=None, responses={200: {"model": Any}})
async def show_result(task_id: TaskId, request: Request) -> Response:
    """Get what a task has returned, of any size, as JSON; 409 for a task that has not succeeded."""
    app: CeleriacApp = request.app.state.celeriac
    record = await asyncio.to_thread(app.records.require, task_id)
    if record.state is not TaskState.SUCCESS:
        msg = f"task {task_id} is {record.state} ({record.state.words}); only one that has succeeded has a result"
        raise Conflict(msg)
    if record.result_file is None:
        return Response(to_json(record.result, inf_nan_mode="null"), media_type="application/json")
    file = await asyncio.to_thread(app.result_files.open, record.result_file.name)
    size = {"Content-Length": str(record.result_file.bytes)}
    return StreamingResponse(_blocks(file), media_type="application/json", headers=size)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK_SIZE):
            yield block


@router.delete("/{task_id}", response_model_exclude_unset=True)
async def cancel_task(task_id: TaskId, request: Request) -> TaskView:
    """Cancel a task: one that waits never starts, one that runs is terminated."""
    return view(await asyncio.to_thread(cancel, request.app.state.celeriac, task_id))


@router.post("/{task_id}/retry", status_code=202)
async def retry_task(task_id: TaskId, request: Request, response: Response) -> SubmitView:
    """Try a task that has failed again, under its id and with all its tries before it."""
    record = await asyncio.to_thread(retry, request.app.state.celeriac, task_id)
    return accepted(response, Submission(record.task_id, record.mode))


def _is_admin(request: Request) -> bool:
    return Scope.ADMIN in request.state.token.scopes
