"""Is the platform well?"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Checks(BaseModel):
    """What was looked at; a check that does not apply is left out."""

    database: str = Field(description="`ok`, or that it is away.")
    redis: str = Field(description="`ok`, or that it is away.")
    celery_worker: str = Field(description="How many workers there are, such as `ok (2 workers)`.")
    workers: dict[str, int] | None = Field(None, description="Workers of each queue.")
    waiting_without_worker: list[str] | None = Field(
        None, description="Queues whose work has waited for over a minute with no worker."
    )


class HealthView(BaseModel):
    """How the platform is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "healthy",
                "checks": {
                    "database": "ok",
                    "redis": "ok",
                    "celery_worker": "ok (2 workers)",
                    "workers": {"default": 1, "data_sync": 1},
                },
            }
        }
    )

    status: Literal["healthy", "degraded", "unhealthy"]
    checks: Checks


class LiveView(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "alive"}})

    status: Literal["alive"]


class WorkerCounts(BaseModel):
    """How many workers there are."""

    total: int
    queues: dict[str, int] = Field(description="By the queue that they consume.")


class ReadyView(BaseModel):
    """The process takes requests."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"status": "ready", "redis": "ok", "workers": {"total": 2, "queues": {"default": 2}}}
        }
    )

    status: Literal["ready"]
    redis: str = Field(description="`ok`, or that it is away.")
    workers: WorkerCounts | None = Field(None, description="Left out while Redis is away.")
