"""Queues."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_EXAMPLE: dict[str, Any] = {
    "queue": "default",
    "ready": 12,
    "in_flight": 4,
    "delayed": 3,
    "dead": 0,
    "oldest_seconds": 0.8,
    "workers": 2,
    "slots": 4,
    "paused": False,
    "versions": ["0.1.0"],
}


class QueueView(BaseModel):
    """A queue."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    queue: str
    ready: int = Field(description="Messages that are due and wait, of all priorities.")
    in_flight: int = Field(description="Messages that a worker holds.")
    delayed: int = Field(description="Messages that wait until they are due: ETA, countdown, retries.")
    dead: int = Field(description="Messages that were given up.")
    oldest_seconds: float = Field(description="How long the next message has waited; 0 where none waits.")
    workers: int = Field(description="Workers that consume it.")
    slots: int = Field(description="Tasks that those can run at a time.")
    paused: bool = Field(description="Whether workers take nothing more from it until it is resumed.")
    versions: list[str] = Field(description="Their versions of Celeriac; several during an upgrade.")


class QueueList(BaseModel):
    """All queues."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE]}})

    items: list[QueueView]


class ScaleRequest(BaseModel):
    """How many workers a queue is to have."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"replicas": 3}})

    replicas: int = Field(ge=0, le=2**31 - 1, strict=True, description="Worker pods; 0 for none.")


class ScaledView(BaseModel):
    """What a queue's Deployment asks for; pods come and go within seconds or minutes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"queue": "default", "deployment": "r-worker-default", "replicas": 3, "replicas_before": 1}
        }
    )

    queue: str
    deployment: str
    replicas: int
    replicas_before: int


class PurgedView(BaseModel):
    """How many messages were dropped."""

    model_config = ConfigDict(json_schema_extra={"example": {"purged": 12}})

    purged: int
