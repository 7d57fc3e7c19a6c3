"""Which Redis the platform has, and how full it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from celeriac.platform import CeleriacApp

router = APIRouter(prefix="/admin/redis", tags=["administration"])


class RedisView(BaseModel):
    """The platform's Redis."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "server": "redis",
                "version": "8.2.1",
                "role": "master",
                "uptime_seconds": 86400,
                "append_only": True,
                "used_memory_bytes": 3_400_000,
                "max_memory_bytes": 268_435_456,
                "keys": 1200,
                "expiring_keys": 1180,
            }
        }
    )

    server: str = Field(description="`redis` or `valkey`.")
    version: str
    role: str = Field(description="`master`, or `slave` after a failover that the platform has not noticed yet.")
    uptime_seconds: int
    append_only: bool = Field(description="Whether it appends what is written to a file.")
    used_memory_bytes: int = Field(description="What its data and its clients take.")
    max_memory_bytes: int = Field(description="Its limit; 0 for none.")
    keys: int = Field(description="Keys in the platform's database, those of others included.")
    expiring_keys: int = Field(description="Of these, the ones that expire by themselves.")


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
