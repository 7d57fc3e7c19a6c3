"""Refuses request bodies that are too large, before they fill memory or disk."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac_api.problems import TooLarge, answer

#: Paths that take many things at once.
BULK = frozenset({"/tasks/bulk"})


class _TooLarge(HTTPException):
    """An `HTTPException`, for FastAPI answers 400 to any other that reading a body raises."""


class BodyLimit:
    """ASGI middleware that counts the bytes of a body, whatever its headers claim.

    Args:
        app: what it wraps.
        body: the most bytes of a body.
        upload: the most bytes of a multipart body.
        bulk: the most bytes of a body for one of the paths `BULK`.
    """

    def __init__(self, app: ASGIApp, *, body: int, upload: int, bulk: int) -> None:
        self._app = app
        self._body = body
        self._upload = upload
        self._bulk = bulk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope["path"], headers.get("content-type", ""))
        detail = f"body: at most {limit} bytes are accepted here; send less, or raise the limit in the API's settings"

        def refusal() -> Response:
            return answer(TooLarge, detail)

        claimed = headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > limit:
            await refusal()(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if started:
                raise
            await refusal()(scope, receive, send)

    def _limit(self, path: str, content_type: str) -> int:
        if content_type.startswith("multipart/form-data"):
            return self._upload
        return self._bulk if path in BULK else self._body
