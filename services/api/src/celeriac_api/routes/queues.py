"""What is in each queue, and who works on it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from celeriac_api.platform_state import PlatformState

router = APIRouter(prefix="/admin/queues", tags=["administration"])


class QueueView(BaseModel):
    """A queue."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "queue": "default",
                "ready": 12,
                "in_flight": 4,
                "delayed": 3,
                "dead": 0,
                "oldest_seconds": 0.8,
                "workers": 2,
                "slots": 4,
            }
        }
    )

    queue: str
    ready: int = Field(description="Messages that are due and wait, of all priorities.")
    in_flight: int = Field(description="Messages that a worker holds.")
    delayed: int = Field(description="Messages that wait until they are due: ETA, countdown, retries.")
    dead: int = Field(description="Messages that were given up.")
    oldest_seconds: float = Field(description="How long the next message has waited; 0 where none waits.")
    workers: int = Field(description="Workers that consume it.")
    slots: int = Field(description="Tasks that those can run at a time.")


class QueueList(BaseModel):
    """All queues."""

    items: list[QueueView]


@router.get("")
async def list_queues(request: Request) -> QueueList:
    """List all queues with what is in them and who works on them."""
    state = await asyncio.to_thread(PlatformState.read, request.app.state.celeriac)
    return QueueList(
        items=[
            QueueView(
                queue=queue.name,
                ready=queue.ready,
                in_flight=queue.in_flight,
                delayed=queue.delayed,
                dead=queue.dead,
                oldest_seconds=round(queue.oldest_seconds, 3),
                workers=queue.workers,
                slots=queue.slots,
            )
            for queue in state.queues
        ]
    )
