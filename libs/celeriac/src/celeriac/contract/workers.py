"""Workers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from celeriac.contract.page import CursorPage

_EXAMPLE: dict[str, Any] = {
    "name": "default-7@r-worker-default-6c9f",
    "queues": ["default"],
    "slots": 2,
    "busy": 1,
    "state": "consuming",
    "pool": "prefork",
    "host": "r-worker-default-6c9f",
    "pid": 7,
    "version": "0.1.0",
    "celery_version": "5.7.0",
    "python_version": "3.13.1",
    "started_at": "2026-01-31T12:00:00.123+00:00",
    "last_heartbeat_at": "2026-01-31T14:30:02.456+00:00",
}


class WorkerView(BaseModel):
    """A worker that lives; what it is too old to say is empty."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    name: str
    queues: list[str] = Field(description="The queues it consumes.")
    slots: int = Field(description="Tasks that it can run at a time.")
    busy: int = Field(description="Tasks that run now.")
    state: str = Field(description="`consuming`, or `stuck`.")
    pool: str = Field(description="How it runs tasks.")
    host: str
    pid: int
    version: str = Field(description="Of Celeriac.")
    celery_version: str
    python_version: str
    started_at: str
    last_heartbeat_at: str = Field(description="By its own clock.")


class WorkerPage(CursorPage[WorkerView]):
    """A page of workers, by name; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"items": [_EXAMPLE], "cursor": _EXAMPLE["name"], "total": 2}}
    )

    total: int = Field(description="All that live, or that consume the queue that was asked for.")
