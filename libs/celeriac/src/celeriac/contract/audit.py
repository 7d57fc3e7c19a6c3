"""The audit log."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from celeriac.contract.page import CursorPage

_EXAMPLE: dict[str, Any] = {
    "id": "17",
    "at": "2026-01-31T12:00:00.123+00:00",
    "who": "ops",
    "what": "POST /admin/dead-letters/replay",
    "target": "/admin/dead-letters/replay",
    "parameters": {"body": {"queue": "email"}},
    "status": 200,
    "client": "10.0.0.7",
}


class ActView(BaseModel):
    """An administrative act."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str
    at: str
    who: str = Field(description="The token's name; `bootstrap` for CELERIAC_API_TOKEN, `cli:<user>` for commands.")
    what: str = Field(description="Method and route, or the command.")
    target: str = Field(description="The path that was asked for, or the name that a command was given.")
    parameters: dict[str, Any] = Field(description="Query and body, without secrets, or why they were left out.")
    status: int | None = Field(description="The status of the answer; null where it was a command, which succeeded.")
    client: str = Field(description="The address that it came from, or the host of the command.")


class ActPage(CursorPage[ActView]):
    """A page of acts; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE], "cursor": "17"}})
