"""Follow tasks as they change: Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from redis.exceptions import RedisError

from celeriac.events import Closed, TaskEvent, check_id
from celeriac.platform import CeleriacApp
from celeriac.results import TaskFilter, TaskRecord, TaskState, view
from celeriac_api.listeners import HEARTBEAT_SECONDS, EventStream, Listeners
from celeriac_api.routes.tasks import TaskId, Text, is_admin

router = APIRouter(prefix="/tasks", tags=["tasks"])

#: From one attempt to read events that were missed to the next, where Redis is away, seconds.
_PAUSE_SECONDS = 0.5

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=50, description="The `id` of the last event that the client has had."),
]

_STREAM: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}


@router.get(
    "/events", response_class=Response, responses={200: _STREAM | {"description": "Events, for as long as is listened"}}
)
async def follow_tasks(
    request: Request,
    state: Annotated[TaskState | None, Query(description="Only changes to this state.")] = None,
    queue: Annotated[Text, Query(description="Only tasks of this queue.")] = None,
    name: Annotated[Text, Query(description="Only tasks of this name.")] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow all tasks: an event for each change, with `task_id`, `name`, `queue`, `state` and `at`.

    With `Last-Event-ID` those after that one come first. An event `gap` says that some are lost, for there were about
    10,000 others since.
    """
    app: CeleriacApp = request.app.state.celeriac
    chosen = TaskFilter(queue=queue, states=tuple(TaskState) if state is None else (state,), name=name)
    messages = _changes(request, app, chosen, check_id(last_event_id) if last_event_id else None)
    return EventStream(await anext(messages), messages, request)


@router.get(
    "/{task_id}/events",
    response_class=Response,
    responses={
        200: _STREAM | {"description": "Events, until the task has ended"},
        204: {"description": "The task has ended, and the client has had its last event"},
    },
)
async def follow_task(task_id: TaskId, request: Request, last_event_id: LastEventId = None) -> Response:
    """Follow a task until it has ended: each event is the whole task, as `GET /tasks/{task_id}` shows it.

    The first event is the task as it is now. Several changes in a short time may come as one event.
    """
    app: CeleriacApp = request.app.state.celeriac
    messages = _views(request, app, task_id, check_id(last_event_id) if last_event_id else None)
    first = await anext(messages, None)
    return Response(status_code=204) if first is None else EventStream(first, messages, request)


async def _views(request: Request, app: CeleriacApp, task_id: str, known: str | None) -> AsyncGenerator[bytes, None]:
    listeners: Listeners = request.app.state.listeners
    shows_traceback = is_admin(request)
    with listeners.one(request):
        async with app.task_events.watch(task_id) as watch:
            record: TaskRecord | None = await app.records.require_by(app.line, task_id)
            if record is not None and record.event == known and not record.state.ready:
                yield _heartbeat()
            while record is not None:
                if record.event != known:
                    known = record.event
                    shown = view(record, traceback=record.traceback if shows_traceback else None)
                    yield _message(known, shown.model_dump_json(exclude_unset=True))
                if record.state.ready:
                    return
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        record = await watch.next()
                except TimeoutError:
                    yield _heartbeat()
                except Closed:
                    return


async def _changes(
    request: Request, app: CeleriacApp, chosen: TaskFilter, after: str | None
) -> AsyncGenerator[bytes, None]:
    listeners: Listeners = request.app.state.listeners
    with listeners.one(request):
        async with app.task_events.feed(chosen, after) as feed:
            # From the first moment on the client knows where to go on after an interruption.
            yield _heartbeat(feed.after)
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        found = await feed.next()
                except TimeoutError:
                    yield _heartbeat(feed.after)
                except Closed:
                    return
                except RedisError:
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    if found:
                        yield b"".join(_change(event) if isinstance(event, TaskEvent) else _GAP for event in found)


def _change(event: TaskEvent) -> bytes:
    fields = {
        "task_id": event.task_id,
        "name": event.name,
        "queue": event.queue,
        "state": event.state,
        "at": event.at,
    }
    return _message(event.id, json.dumps(fields, ensure_ascii=False))


_GAP = b"event: gap\ndata: {}\n\n"


def _message(event_id: str, data: str) -> bytes:
    return f"id: {event_id}\ndata: {data}\n\n".encode()


def _heartbeat(event_id: str | None = None) -> bytes:
    """A comment; the id, without data, moves on what the client sends as `Last-Event-ID`."""
    return b":\n\n" if event_id is None else f":\nid: {event_id}\n\n".encode()
