"""Is the platform well? None of these needs a token."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from celeriac.contract.health import HealthView, LiveView, ReadyView, WorkerCounts
from celeriac.platform import CeleriacApp
from celeriac_api.platform_state import PlatformState, QueueState

router = APIRouter(prefix="/health", tags=["operations"])

#: Work may wait so long for a worker before the platform counts as degraded, seconds.
WAIT_WITHOUT_WORKER_SECONDS = 60


@router.get("", response_model=HealthView, responses={503: {"model": HealthView, "description": "It is unhealthy"}})
async def health(request: Request) -> JSONResponse:
    """Show how the platform is.

    `healthy` and `degraded` answer 200, `unhealthy` 503. Degraded: Redis is away, or work has waited for over a
    minute with no worker. A queue at zero workers with nothing waiting is healthy, and so is one that is paused.
    """
    app: CeleriacApp = request.app.state.celeriac
    database, (redis, state) = await asyncio.gather(
        asyncio.to_thread(_database, app), asyncio.to_thread(_platform, app)
    )
    checks: dict[str, Any] = {"database": database, "redis": redis}
    status = "healthy"
    if state is None:
        checks["celery_worker"] = "unknown (redis is away)"
        status = "degraded"
    else:
        checks["celery_worker"] = f"ok ({state.workers} workers)" if state.workers else "no active workers"
        checks["workers"] = {queue.name: queue.workers for queue in state.queues}
        waiting = [queue.name for queue in state.queues if _waits_in_vain(queue)]
        if paused := [queue.name for queue in state.queues if queue.paused]:
            checks["paused"] = paused
        if waiting:
            status = "degraded"
            checks["waiting_without_worker"] = waiting
    if database != "ok":
        status = "unhealthy"
    return JSONResponse({"status": status, "checks": checks}, status_code=503 if status == "unhealthy" else 200)


@router.get("/live")
async def live() -> LiveView:
    """Answer while the process does: looks at nothing that it depends on."""
    return LiveView(status="alive")


@router.get("/ready", response_model_exclude_unset=True)
async def ready(request: Request) -> ReadyView:
    """Answer 200 once requests can be served; stays 200 while degraded, with the worker counts as far as known."""
    app: CeleriacApp = request.app.state.celeriac
    redis, state = await asyncio.to_thread(_platform, app)
    if state is None:
        return ReadyView(status="ready", redis=redis)
    queues = {queue.name: queue.workers for queue in state.queues}
    return ReadyView(status="ready", redis=redis, workers=WorkerCounts(total=state.workers, queues=queues))


def _waits_in_vain(queue: QueueState) -> bool:
    late = queue.ready and queue.oldest_seconds > WAIT_WITHOUT_WORKER_SECONDS
    return bool(late and not queue.workers and not queue.paused)


def _database(app: CeleriacApp) -> str:
    try:
        with app.database.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return f"away ({type(error).__name__})"
    return "ok"


def _platform(app: CeleriacApp) -> tuple[str, PlatformState | None]:
    try:
        return "ok", PlatformState.read(app)
    except RedisError as error:
        return f"away ({type(error).__name__})", None
