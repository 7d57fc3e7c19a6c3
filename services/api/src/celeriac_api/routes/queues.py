"""What is in each queue and who works on it; queues are paused, resumed, purged and scaled here."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from celeriac.contract.problem import fails
from celeriac.contract.queues import PurgedView, QueueList, QueueView, ScaledView, ScaleRequest
from celeriac.errors import Conflict, NotFound
from celeriac.platform import CeleriacApp
from celeriac.publishing.purge import purge
from celeriac_api.platform_state import PlatformState, QueueState

router = APIRouter(prefix="/admin/queues", tags=["administration"])


def _known(
    queue: Annotated[str, Path(max_length=200, description="The queue's name.")],
    request: Request,
) -> str:
    """The name of a queue of the platform.

    Raises:
        NotFound: there is none.
    """
    names = [each.name for each in _app(request).queues]
    if queue not in names:
        raise NotFound("queue", queue, f"known are {', '.join(sorted(names))}")
    return queue


Known = Annotated[str, Depends(_known)]


@router.get("")
async def list_queues(request: Request) -> QueueList:
    """List all queues with what is in them and who works on them."""
    state = await asyncio.to_thread(PlatformState.read, _app(request))
    return QueueList(items=[_view(queue) for queue in state.queues])


@router.get("/{queue}")
async def show_queue(queue: Known, request: Request) -> QueueView:
    """Show what is in a queue and who works on it."""
    state = await asyncio.to_thread(PlatformState.read, _app(request), [queue])
    return _view(state.queues[0])


@router.post("/{queue}/pause")
async def pause_queue(queue: Known, request: Request) -> QueueView:
    """Let workers take nothing more from a queue; what runs goes on, and submits are accepted."""
    await asyncio.to_thread(_app(request).pauses.pause, queue)
    return await show_queue(queue, request)


@router.post("/{queue}/resume")
async def resume_queue(queue: Known, request: Request) -> QueueView:
    """Let workers take from a paused queue again."""
    await asyncio.to_thread(_app(request).pauses.resume, queue)
    return await show_queue(queue, request)


@router.post("/{queue}/purge")
async def purge_queue(queue: Known, request: Request) -> PurgedView:
    """Drop what waits in a queue, delayed tasks included; these become `REVOKED`. What workers hold stays."""
    return PurgedView(purged=await asyncio.to_thread(purge, _app(request), queue))


@router.post("/{queue}/scale", responses=fails(Conflict))
async def scale_queue(queue: Known, body: ScaleRequest, request: Request) -> ScaledView:
    """Ask for a number of worker pods of a queue.

    409 with the reason where there is no cluster, an autoscaler decides, or scaling is switched off.
    """
    scaled = await asyncio.to_thread(_app(request).scaling.scale, queue, body.replicas)
    return ScaledView(queue=queue, **asdict(scaled))


def _app(request: Request) -> CeleriacApp:
    app: CeleriacApp = request.app.state.celeriac
    return app


def _view(queue: QueueState) -> QueueView:
    return QueueView(
        queue=queue.name,
        ready=queue.ready,
        in_flight=queue.in_flight,
        delayed=queue.delayed,
        dead=queue.dead,
        oldest_seconds=round(queue.oldest_seconds, 3),
        workers=queue.workers,
        slots=queue.slots,
        paused=queue.paused,
        versions=list(queue.versions),
    )
