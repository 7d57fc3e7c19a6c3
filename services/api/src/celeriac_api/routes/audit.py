"""Who changed what."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from celeriac.platform import CeleriacApp

router = APIRouter(prefix="/admin/audit", tags=["administration"])


class ActView(BaseModel):
    """An administrative act."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "17",
                "at": "2026-01-31T12:00:00.123+00:00",
                "who": "ops",
                "what": "POST /admin/dead-letters/replay",
                "target": "/admin/dead-letters/replay",
                "parameters": {"body": {"queue": "email"}},
                "status": 200,
                "client": "10.0.0.7",
            }
        }
    )

    id: str
    at: str
    who: str = Field(description="The token's name; `bootstrap` for CELERIAC_API_TOKEN, `cli:<user>` for commands.")
    what: str = Field(description="Method and route, or the command.")
    target: str = Field(description="The path that was asked for, or the name that a command was given.")
    parameters: dict[str, Any] = Field(description="Query and body, without secrets, or why they were left out.")
    status: int | None = Field(description="The status of the answer; null where it was a command, which succeeded.")
    client: str = Field(description="The address that it came from, or the host of the command.")


class ActPage(BaseModel):
    """A page of acts; `cursor` gets the next one, and is null at the end."""

    items: list[ActView]
    cursor: str | None


@router.get("")
async def list_acts(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries per page.")] = 100,
    cursor: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The `cursor` of the page before.")] = None,
) -> ActPage:
    """List administrative acts, the newest first: changes below `/admin`, and tokens made and revoked."""
    app: CeleriacApp = request.app.state.celeriac
    found = await asyncio.to_thread(app.audit.page, limit=limit, before=cursor)
    items = [
        ActView(
            id=str(act.id),
            at=act.at.isoformat(timespec="milliseconds"),
            who=act.who,
            what=act.what,
            target=act.target,
            parameters=act.parameters,
            status=act.status,
            client=act.client,
        )
        for act in found
    ]
    return ActPage(items=items, cursor=items[-1].id if len(items) == limit else None)
