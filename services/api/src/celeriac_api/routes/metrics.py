"""Prometheus metrics; they need no token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from redis.exceptions import RedisError

from celeriac_api.metrics import REGISTRY, PlatformCollector

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Show the metrics of the API, and of queues and workers while Redis can be reached."""
    own = generate_latest(REGISTRY)
    platform = CollectorRegistry(auto_describe=False)
    collector = PlatformCollector(request.app.state.celeriac)

    def read() -> bytes:
        platform.register(collector)
        return generate_latest(platform)

    try:
        own += await asyncio.to_thread(read)
    except RedisError:
        own += b"# queues and workers are absent: Redis cannot be reached\n"
    return Response(own, media_type=CONTENT_TYPE_LATEST)
