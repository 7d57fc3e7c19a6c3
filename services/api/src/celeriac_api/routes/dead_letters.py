"""Look at messages that were given up, replay and drop them."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from celeriac.broker import messages
from celeriac.broker.dead_letters import CURSOR, DeadLetter, Selection
from celeriac.contract.dead_letters import (
    DeadLetterDetail,
    DeadLetterFilter,
    DeadLetterPage,
    DeadLetterView,
    DroppedView,
    ReplayedView,
    ReplayView,
)
from celeriac.contract.numbers import MAX_ID
from celeriac.errors import NotFound
from celeriac.platform import CeleriacApp
from celeriac.publishing.dead_letters import drop, drop_all, replay, replay_all

router = APIRouter(prefix="/admin/dead-letters", tags=["administration"])

Tag = Annotated[int, Path(ge=1, le=MAX_ID, description="What the list shows as `tag`.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Entries per page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=300, json_schema_extra={"pattern": CURSOR}, description="The `cursor` of the page before."),
]


@router.get("")
async def list_dead_letters(
    request: Request,
    queue: Annotated[str | None, Query(max_length=200, description="Only those of this queue.")] = None,
    task: Annotated[str | None, Query(max_length=1000, description="Only those of tasks of this name.")] = None,
    reason: Annotated[str | None, Query(max_length=1000, description="Only those whose reason contains this.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> DeadLetterPage:
    """List messages that were given up, the newest first."""
    selection = Selection(queue=queue, task=task, reason=reason)
    found = await asyncio.to_thread(_app(request).dead_letters.page, selection, limit=limit, after=cursor)
    items = [DeadLetterView(**_describe(letter)) for letter in found]
    return DeadLetterPage(items=items, cursor=found[-1].cursor if len(found) == limit else None)


@router.get("/{tag}")
async def show_dead_letter(tag: Tag, request: Request) -> DeadLetterDetail:
    """Show a dead letter with its message."""
    letter = await asyncio.to_thread(_app(request).dead_letters.get, tag)
    args, kwargs = _arguments(letter)
    message = letter.message.decode(errors="replace")
    return DeadLetterDetail(**_describe(letter), args=args, kwargs=kwargs, message=message)


@router.post("/{tag}/replay", status_code=202)
async def replay_dead_letter(tag: Tag, request: Request, response: Response) -> ReplayView:
    """Put a dead letter's message back into its queue; its task has all its deliveries before it."""
    app = _app(request)

    def find_and_replay() -> DeadLetter:
        letter = app.dead_letters.get(tag)
        if not replay(app, letter):
            raise NotFound("dead letter", tag, "it has just been replayed or dropped")
        return letter

    letter = await asyncio.to_thread(find_and_replay)
    status_url = f"/tasks/{letter.task_id}" if letter.task_id else None
    if status_url:
        response.headers["Location"] = status_url
    return ReplayView(tag=str(tag), queue=letter.queue, task_id=letter.task_id, status_url=status_url)


@router.delete("/{tag}")
async def drop_dead_letter(tag: Tag, request: Request) -> DeadLetterView:
    """Forget a dead letter; its task stays failed."""
    app = _app(request)

    def find_and_drop() -> DeadLetter:
        letter = app.dead_letters.get(tag)
        if not drop(app, letter):
            raise NotFound("dead letter", tag, "it has just been replayed or dropped")
        return letter

    return DeadLetterView(**_describe(await asyncio.to_thread(find_and_drop)))


@router.post("/replay")
async def replay_dead_letters(body: DeadLetterFilter, request: Request) -> ReplayedView:
    """Put all dead letters that match back into their queues, those that died first at first."""
    return ReplayedView(replayed=await asyncio.to_thread(replay_all, _app(request), _selection(body)))


@router.post("/drop")
async def drop_dead_letters(body: DeadLetterFilter, request: Request) -> DroppedView:
    """Forget all dead letters that match; their tasks stay failed."""
    return DroppedView(dropped=await asyncio.to_thread(drop_all, _app(request), _selection(body)))


def _app(request: Request) -> CeleriacApp:
    app: CeleriacApp = request.app.state.celeriac
    return app


def _selection(body: DeadLetterFilter) -> Selection:
    return Selection(queue=body.queue, task=body.task, reason=body.reason)


def _describe(letter: DeadLetter) -> dict[str, Any]:
    return {
        # More digits than the numbers of some clients have.
        "tag": str(letter.tag),
        "queue": letter.queue,
        "task_id": letter.task_id,
        "task": letter.task,
        "reason": letter.reason,
        "error": letter.error,
        "worker": letter.worker,
        "deliveries": letter.deliveries,
        "died_at": letter.died_at.isoformat(timespec="milliseconds"),
    }


def _arguments(letter: DeadLetter) -> tuple[Any, Any]:
    try:
        args, kwargs, _ = messages.content(letter.parsed or {})
        json.dumps([args, kwargs], ensure_ascii=False, default=str).encode()
    except (ValueError, TypeError, KeyError):
        return None, None
    return args, kwargs
