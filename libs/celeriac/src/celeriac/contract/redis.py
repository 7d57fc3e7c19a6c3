"""The platform's Redis."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
