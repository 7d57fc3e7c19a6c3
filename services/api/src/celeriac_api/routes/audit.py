"""Who changed what."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from celeriac.contract.audit import ActPage, ActView
from celeriac.contract.numbers import MAX_ID
from celeriac.platform import CeleriacApp

router = APIRouter(prefix="/admin/audit", tags=["administration"])


@router.get("")
async def list_acts(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries per page.")] = 100,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_ID, description="The `cursor` of the page before.")] = None,
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
