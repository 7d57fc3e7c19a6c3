"""Refuses request bodies that are too large, before they fill memory or disk, and those that take too long."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac_api.problems import RequestTimeout, TooLarge, answer

#: Paths that take many things at once.
BULK = frozenset({"/tasks/bulk"})


#: A body that arrives more slowly in the long run is given up.
LEAST_BYTES_PER_SECOND = 1024


class _Refused(HTTPException):
    """An `HTTPException`, for FastAPI answers 400 to any other that reading a body raises."""


class BodyLimit:
    """ASGI middleware that counts the bytes of a body, whatever its headers claim, and the time that they take.

    Args:
        app: what it wraps.
        body: the most bytes of a body.
        upload: the most bytes of a multipart body.
        bulk: the most bytes of a body for one of the paths `BULK`.
        seconds: how long a body may take, and a second more for each `LEAST_BYTES_PER_SECOND` that have come.
    """

    def __init__(self, app: ASGIApp, *, body: int, upload: int, bulk: int, seconds: float) -> None:
        self._app = app
        self._body = body
        self._upload = upload
        self._bulk = bulk
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 408 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope["path"], headers.get("content-type", ""))
        detail = f"body: at most {limit} bytes are accepted here; send less, or raise the limit in the API's settings"

        claimed = headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > limit:
            await answer(TooLarge, detail)(scope, receive, send)
            return
        now = asyncio.get_running_loop().time
        received, began, ended, started = 0, 0.0, False, False

        async def counted() -> Message:
            nonlocal received, began, ended
            if ended:
                return await receive()  # which comes when the client has gone
            began = began or now()
            try:
                async with asyncio.timeout_at(began + self._seconds + received / LEAST_BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError:
                raise _Refused(HTTPStatus.REQUEST_TIMEOUT, self._late(now() - began, received)) from None
            received += len(message.get("body", b""))
            ended = not message.get("more_body")
            if received > limit:
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _Refused as refused:
            if started:
                raise
            kind = RequestTimeout if refused.status_code == HTTPStatus.REQUEST_TIMEOUT else TooLarge
            await answer(kind, refused.detail)(scope, receive, send)

    def _late(self, seconds: float, received: int) -> str:
        return (
            f"body: only {received} bytes of it arrived within {seconds:.0f} s; send faster, or raise "
            "CELERIAC_API__BODY_SECONDS"
        )

    def _limit(self, path: str, content_type: str) -> int:
        if content_type.startswith("multipart/form-data"):
            return self._upload
        return self._bulk if path in BULK else self._body
