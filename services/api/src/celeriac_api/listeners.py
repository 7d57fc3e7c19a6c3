"""Requests that go on for as long as they follow tasks: how many there may be, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Final

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from celeriac.errors import Unavailable
from celeriac.events import Closed, Watch
from celeriac.platform import CeleriacApp
from celeriac.results import TaskRecord
from celeriac_api.metrics import LISTENERS

#: A stream on which nothing happens says so every so often, seconds, lest a proxy takes it for dead; and its token is
#: looked at again.
HEARTBEAT_SECONDS: Final = 15.0


class Busy(Unavailable):
    """More clients listen to events than one process may have."""

    title = "Too many listeners"
    code = "too-many-listeners"
    way_out = "Listen again after `Retry-After`; run more API processes, or raise `CELERIAC_API__MAX_LISTENERS`."
    retry_after_seconds = 5


class Listeners:
    """Counts who listens, and refuses more than a limit.

    Args:
        limit: how many may listen at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    @contextmanager
    def one(self, request: Request) -> Iterator[None]:
        """Count a request as long as it listens.

        Raises:
            Busy: there are too many.
        """
        if self._count >= self._limit:
            msg = (
                f"{self._count} requests follow tasks here already; try again later, or ask for tasks now and then; "
                "CELERIAC_API__MAX_LISTENERS is the limit"
            )
            raise Busy(msg)
        request.state.listens = True
        self._count += 1
        LISTENERS.inc()
        try:
            yield
        finally:
            self._count -= 1
            LISTENERS.dec()


class EventStream(Response):
    """Server-Sent Events, until they end, the client goes away or its token is revoked.

    What the client does not read is not kept here but for the buffers of its connection: the next message is asked for
    when that has taken the one before.

    Args:
        first: what it begins with.
        messages: what follows; closed at the end.
        request: who asks for it.
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, messages: AsyncGenerator[bytes, None], request: Request) -> None:
        # The second tells nginx to pass on each message as it comes.
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._first = first
        self._messages = messages
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the stream."""
        async with aclosing(self._messages):
            sending, leaving = asyncio.create_task(self._send(send)), asyncio.create_task(left(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                outcome, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        async for message in self._messages:
            if loop.time() - checked_at >= HEARTBEAT_SECONDS:
                if not await self._request.state.guard.is_welcome(self._request.scope):
                    break
                checked_at = loop.time()
            await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def wait_for_end(request: Request, task_id: str, seconds: float) -> TaskRecord:
    """Read a task's record when it has ended, or the time is up.

    Args:
        request: who asks; one that goes away is answered at once.
        task_id: the task.
        seconds: the time; 0 for its record as it is now.

    Raises:
        NotFound: the id is not known.
        Unavailable: there are too many listeners.
        RedisError: Redis is away at the beginning or when the time is up.
    """
    app: CeleriacApp = request.app.state.celeriac
    listeners: Listeners = request.app.state.listeners
    record = await app.records.require_by(app.line, task_id)
    if record.state.ready or not seconds:
        return record
    with listeners.one(request):
        async with app.task_events.watch(task_id) as watch:
            record = await app.records.require_by(app.line, task_id)
            if record.state.ready:
                return record
            ending, leaving = asyncio.create_task(_ended(watch)), asyncio.create_task(left(request.receive))
            try:
                await asyncio.wait({ending, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
                leaving.cancel()
                await asyncio.gather(ending, leaving, return_exceptions=True)
    ended = None if ending.cancelled() else ending.result()
    return ended or await app.records.require_by(app.line, task_id)


async def left(receive: Receive) -> None:
    """Wait until the client of a request goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(watch: Watch) -> TaskRecord | None:
    try:
        while (record := await watch.next()) is not None and not record.state.ready:
            pass
    except Closed:
        return None  # better the state of now than none
    return record
