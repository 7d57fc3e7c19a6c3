"""Which Redis the platform has, and how full it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from celeriac.contract.redis import RedisView
from celeriac.platform import CeleriacApp

router = APIRouter(prefix="/admin/redis", tags=["administration"])


@router.get("")
async def show_redis(request: Request) -> RedisView:
    """Show which Redis the platform has and how full it is."""
    return await asyncio.to_thread(_read, request.app.state.celeriac)


def _read(app: CeleriacApp) -> RedisView:
    client = app.probe_redis
    info: Mapping[str, Any] = client.info()
    keyspace = info.get(f"db{client.connection_pool.connection_kwargs.get('db', 0)}", {})
    server = info.get("server_name", "redis")
    return RedisView(
        server=server,
        # Valkey says the version of Redis that it is compatible with, too.
        version=info.get(f"{server}_version", info["redis_version"]),
        role=info["role"],
        uptime_seconds=info["uptime_in_seconds"],
        append_only=bool(info["aof_enabled"]),
        used_memory_bytes=info["used_memory"],
        max_memory_bytes=info["maxmemory"],
        keys=keyspace.get("keys", 0),
        expiring_keys=keyspace.get("expires", 0),
    )
