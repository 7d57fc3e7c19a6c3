"""Dead letters: messages that were given up."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from celeriac.contract.page import CursorPage

_EXAMPLE: dict[str, Any] = {
    "tag": "1769860800123456",
    "queue": "default",
    "task_id": "5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11",
    "task": "examples.resize",
    "reason": "delivered 5 times without an end",
    "error": "its worker ended with SIGKILL",
    "worker": "celeriac-worker-default-6c9f:17",
    "deliveries": 5,
    "died_at": "2026-01-31T12:00:00.123000Z",
}


class DeadLetterFilter(BaseModel):
    """Which dead letters: those to which everything applies that is given; `{}` is all of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"queue": "default", "reason": "knows"}})

    queue: str | None = Field(None, max_length=200, description="Only those of this queue.")
    task: str | None = Field(None, max_length=1000, description="Only those of tasks of this name.")
    reason: str | None = Field(None, max_length=1000, description="Only those whose reason contains this.")


class DeadLetterView(BaseModel):
    """A message that was given up."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    tag: str
    queue: str
    task_id: str | None = Field(description="null where the message names none.")
    task: str | None = Field(description="The task's name; null where the message names none.")
    reason: str = Field(description="Why it was given up.")
    error: str = Field(description="The last error, as far as it is known.")
    worker: str = Field(description="Who held it last: host and process.")
    deliveries: int = Field(description="Deliveries that were started and came to no end.")
    died_at: str


class DeadLetterDetail(DeadLetterView):
    """A dead letter with its message."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**_EXAMPLE, "args": [1280], "kwargs": {}, "message": '{"body": "…"}'}}
    )

    args: Any = Field(description="Positional arguments; null where they cannot be read.")
    kwargs: Any = Field(description="Named arguments; null where they cannot be read.")
    message: str = Field(description="The message as it stands in Redis.")


class DeadLetterPage(CursorPage[DeadLetterView]):
    """A page of dead letters; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE], "cursor": "1769860800123:default"}})


class ReplayView(BaseModel):
    """A dead letter whose message is back in its queue."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tag": "1769860800123456",
                "queue": "default",
                "task_id": "5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11",
                "status_url": "/tasks/5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11",
            }
        }
    )

    tag: str
    queue: str
    task_id: str | None = Field(description="null where the message names none.")
    status_url: str | None = Field(description="Where to follow the task.")


class ReplayedView(BaseModel):
    """How many were replayed."""

    model_config = ConfigDict(json_schema_extra={"example": {"replayed": 3}})

    replayed: int


class DroppedView(BaseModel):
    """How many were dropped."""

    model_config = ConfigDict(json_schema_extra={"example": {"dropped": 3}})

    dropped: int
