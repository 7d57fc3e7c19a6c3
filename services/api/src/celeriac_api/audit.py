"""Records what administrators change: who, what, with which parameters, and how it ended."""

from __future__ import annotations

import asyncio
import json
import math
import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac.access import Act, AuditLog
from celeriac.access.tokens import PREFIX
from celeriac_api.auth import is_administrative

log = structlog.get_logger(__name__)

CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})

#: A body, and a query, longer than this is left out of the record, bytes.
MAX_RECORDED: Final = 4096

#: How long an answer waits for its record, seconds; the record may still be written later.
PATIENCE_SECONDS: Final = 6

HIDDEN: Final = "[hidden]"

_SECRET_NAME = re.compile(r"passw|pwd|secret|token|credential|authorization|cookie|api_?-?key|private", re.IGNORECASE)
_TOKEN = re.compile(rf"{PREFIX}[\w-]{{20,}}")
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
#: What PostgreSQL takes in no text.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Audit:
    """ASGI middleware that records requests of administrators that change something, before they are answered.

    Whoever has the answer finds the record; one that cannot be written, for the database is away, is a warning in the
    log, and the answer the same. It stands after `Guard`: what that refused has changed nothing, and who asked may
    not be known.

    Args:
        app: what it wraps.
        audit: where acts go.
    """

    def __init__(self, app: ASGIApp, *, audit: AuditLog) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record it if it is an administrative act."""
        if not _is_act(scope):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        recorded = False

        async def noted() -> Message:
            message = await receive()
            if len(body) <= MAX_RECORDED:
                body.extend(message.get("body", b"")[: MAX_RECORDED + 1])
            return message

        async def record(status: int) -> None:
            nonlocal recorded
            recorded = True
            act = _act(scope, bytes(body), status)
            try:
                await asyncio.wait_for(asyncio.to_thread(self._audit.record, act), PATIENCE_SECONDS)
            except TimeoutError:
                log.warning("audit_late", who=act.who, what=act.what, target=act.target, status=act.status)

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                await record(message["status"])
            await send(message)

        try:
            await self._app(scope, noted, recording)
        except Exception:
            if not recorded:
                await record(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise


def _is_act(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in CHANGING:
        return False
    return is_administrative(scope["method"], scope["path"])


def _act(scope: Scope, body: bytes, status: int) -> Act:
    route = getattr(scope.get("route"), "path", "unmatched")
    parameters = {"query": _query(scope["query_string"]), "body": _body(body)}
    return Act(
        who=scope["state"]["token"].name,
        what=f"{scope['method']} {route}",
        target=_text(scope["path"]),
        parameters={name: value for name, value in parameters.items() if value is not None},
        status=status,
        client=scope["client"][0] if scope.get("client") else "",
    )


def _query(query: bytes) -> Any:  # noqa: ANN401 - JSON
    if not query:
        return None
    if len(query) > MAX_RECORDED:
        return f"left out: more than {MAX_RECORDED} bytes"
    return _shown(parse_qs(query.decode("latin-1"), keep_blank_values=True))


def _body(body: bytes) -> Any:  # noqa: ANN401 - JSON
    if not body:
        return None
    if len(body) > MAX_RECORDED:
        return f"left out: more than {MAX_RECORDED} bytes"
    try:
        return _shown(json.loads(body))
    except (ValueError, RecursionError):
        return "left out: no JSON"


def _shown(value: Any) -> Any:  # noqa: ANN401
    """The value without secrets, and without what a database refuses."""
    if isinstance(value, dict):
        return {
            _text(name): HIDDEN if _SECRET_NAME.search(name) and item is not None else _shown(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(text: str) -> str:
    storable = _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _PASSWORD_IN_URL.sub(rf"\1{HIDDEN}@", _TOKEN.sub(HIDDEN, storable))
