"""The HTTP server: uvicorn, which trusts its clients, behind limits for those who deserve no trust.

Guarantees, whatever clients send or do not send, with a token or without one:

- A connection costs a bounded amount of memory: the head of a request, what stands between the parts of its body and
  the number of requests that are sent ahead are limited.
- No connection lasts for ever: who sends no request, sends one too slowly or does not read the answer is cut off, and
  where there are too many, the one that has waited longest without a request makes room.
- What cannot be read as a request is answered with a problem, in its turn.

How long a body may take is a matter of `celeriac_api.limits`, for that is answered within the application.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from celeriac.contract.problem import MEDIA_TYPE, Problem
from celeriac.errors import CeleriacError, Unavailable
from celeriac.platform import CeleriacApp
from celeriac.settings import ApiSettings
from celeriac_api.problems import HeadTooLarge, MalformedRequest, RequestTimeout

log = structlog.get_logger(__name__)

#: Header fields of a request; each is looked at several times.
MAX_FIELDS: Final = 100
#: Requests that a client may send before the first is answered. Those who do so at all send a few.
MAX_AHEAD: Final = 16
#: Parts of a body; from then on they must be of so many bytes on average. Each costs time, however small it is.
MAX_SMALL_PARTS: Final = 1000
LEAST_PART_BYTES: Final = 64
#: How long a client may go on sending what nobody reads, so that it comes to reading the answer, seconds.
LINGER_SECONDS: Final = 3
#: What of an answer may wait in the kernel, bytes, of which Linux takes twice as many: by itself it would keep several
#: MiB for each client that does not read.
SEND_BUFFER: Final = 128 * 2**10
#: How often connections are looked at, seconds.
TEND_SECONDS: Final = 0.5
#: What the process opens besides connections: log, database, Redis, files.
OTHER_FILES: Final = 256


class Connection(HttpToolsProtocol):
    """A connection that keeps to its limits; made by `connection_class`."""

    limits: ClassVar[ApiSettings]
    #: Connections at a time.
    most: ClassVar[int]
    #: Connections without a whole request, those that wait longest first: in the first no request has begun since the
    #: last one was answered, in the second one has, or none was ever answered.
    resting: ClassVar[dict[Connection, None]]
    waiting: ClassVar[dict[Connection, None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        super().__init__(*args, **kwargs)
        #: When the head began that has not ended, by the loop's clock; None between requests and within a body.
        self._head_since: float | None = None
        #: When the client stopped reading, the transport began to close, and this end stopped sending.
        self._unread_since: float | None = None
        self._closing_since: float | None = None
        self._lingering_since: float | None = None
        #: Parts of the body that comes, and their bytes.
        self._parts = 0
        self._part_bytes = 0
        #: Grows with every head, part of a body and end of a request.
        self._progress = 0
        #: Bytes since it has grown, and those of the data that is being parsed.
        self._unfinished = 0
        self._chunk = 0
        self._refusal: tuple[type[CeleriacError], str] | None = None
        #: The request that is being answered, or was the last one; uvicorn's own `cycle` is the last that came.
        self._active: RequestResponseCycle | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse where there is no room."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if len(self.connections) > self.most and not self._make_room():
            log.warning("too_many_connections", connections=len(self.connections))
            detail = f"{self.most} connections are open, all of them busy; try again later"
            self._refuse(Unavailable, detail)
            return
        self.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and tell the request that is being answered, also where others came after it."""
        self.waiting.pop(self, None)
        self.resting.pop(self, None)
        if self._active is not None and not self._active.response_complete:
            self._disconnect(self._active)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nobody is to read it."""
        if self._lingering_since is not None:
            return
        if self._head_since is None and self._is_between_requests():
            # Not only a request's first byte: empty lines, too, end the time for which a connection may rest.
            self._begin_head()
        self._chunk = len(data)
        before = self._progress
        super().data_received(data)
        if self._progress != before:
            self._unfinished = 0
            return
        # A part of a head, or chunk sizes, their extensions and trailers, which are counted nowhere else.
        self._unfinished += len(data)
        if self._unfinished > self.limits.max_head_bytes:
            self._refuse(HeadTooLarge, self._too_large())

    def pause_writing(self) -> None:
        """Note since when the client does not read."""
        super().pause_writing()
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        self._unread_since = None

    # What the parser tells

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._head_since is None:
            self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one that comes after the body is dropped."""
        if self._head_since is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start a request whose head is no larger than it may be."""
        self._progress += 1
        self._parts = self._part_bytes = 0
        self._head_since = None
        self.waiting.pop(self, None)
        if len(self.headers) > MAX_FIELDS or (
            self._unfinished + self._chunk > self.limits.max_head_bytes
            and self._head_size() > self.limits.max_head_bytes
        ):
            raise self._refused(HeadTooLarge, self._too_large())
        if len(self.pipeline) >= MAX_AHEAD:
            detail = f"at most {MAX_AHEAD} requests may be sent ahead of the answers on one connection"
            raise self._refused(MalformedRequest, detail)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._progress += 1
        self._parts += 1
        self._part_bytes += len(body)
        if self._parts > MAX_SMALL_PARTS and self._part_bytes < self._parts * LEAST_PART_BYTES:
            detail = f"body: more than {MAX_SMALL_PARTS} chunks of less than {LEAST_PART_BYTES} bytes; send larger ones"
            raise self._refused(MalformedRequest, detail)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come whole."""
        self._progress += 1
        super().on_message_complete()

    # What uvicorn asks for

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        self._active = cycle
        if _has_body(cycle.scope["headers"]):
            # Of these alone the answer may come before the end of the request.
            cycle.send = _Closing(cycle).send  # type: ignore[method-assign]
            cycle.transport = _Lingering(cycle, self)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Rest, or go on with the next request."""
        super().on_response_complete()
        if self._head_since is not None:
            # The next one has begun meanwhile; its time runs from now on.
            self._begin_head()
        elif self._is_between_requests():
            self.resting[self] = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or what is one too large."""
        self._refuse(*(self._refusal or (MalformedRequest, f"this is no HTTP request: {msg}")))

    def shutdown(self) -> None:
        """End, if nothing is to be answered."""
        if self._lingering_since is not None:
            self.transport.abort()
        else:
            super().shutdown()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: clients may ask for what they like, and get HTTP/1.1."""

    # Limits

    def tend(self) -> None:
        """Cut off who is too slow; called again and again."""
        now, transport = self.loop.time(), self.transport
        if transport.is_closing():
            # Closed by uvicorn, with an answer that the client does not take.
            self._closing_since = self._closing_since or now
        if any(
            since is not None and now - since > seconds
            for since, seconds in (
                (self._closing_since, self.limits.unread_seconds),
                (self._unread_since, self.limits.unread_seconds),
                (self._lingering_since, LINGER_SECONDS),
            )
        ):
            transport.abort()
        elif self._head_since is not None and now - self._head_since > self.limits.head_seconds:
            self._refuse_late()

    def linger(self) -> None:
        """Send no more, and read what still comes for a while.

        A connection that is closed while data comes in is reset, and some clients then lose the answer.
        """
        if self._lingering_since is None and not self.transport.is_closing():
            self._lingering_since = self.loop.time()
            self._unset_keepalive_if_required()
            self.flow.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _is_between_requests(self) -> bool:
        return (self._active is None or self._active.response_complete) and not self.pipeline

    def _begin_head(self) -> None:
        self._head_since = self.loop.time()
        if self._is_between_requests():
            self.resting.pop(self, None)
            self.waiting[self] = None

    def _make_room(self) -> bool:
        for idle in (self.waiting, self.resting):
            for connection in idle:
                connection.transport.abort()
                idle.pop(connection)
                return True
        return False

    def _refuse_late(self) -> None:
        if not self._is_between_requests():
            return  # it is sent ahead of an answer, and waits itself
        if self._unfinished:
            seconds = self.limits.head_seconds
            self._refuse(RequestTimeout, f"the head of the request did not arrive within {seconds:g} s")
        else:
            self.transport.close()

    def _refused(self, kind: type[CeleriacError], detail: str) -> Exception:
        """An error that stops the parser, which then asks for an answer."""
        self._refusal = kind, detail
        return ValueError(detail)

    def _refuse(self, kind: type[CeleriacError], detail: str) -> None:
        """Answer and read no more; but what was asked before is answered first."""
        active = self._active
        if active is not None and not active.response_complete and not active.more_body:
            active.keep_alive = False
            self.pipeline.clear()
            self.flow.pause_reading()
            return
        self._head_since = None
        if active is None or active.response_complete or not active.response_started:
            body = Problem(type=kind.type_uri(), title=kind.title, status=kind.status, detail=detail)
            self.transport.write(_raw(body, kind.retry_after_seconds))
        if active is not None and not active.response_complete:
            self._disconnect(active)
        self.linger()

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> str:
        return (
            f"the request's URL and headers are more than {self.limits.max_head_bytes} bytes or {MAX_FIELDS} fields; "
            "send less, or raise CELERIAC_API__MAX_HEAD_BYTES"
        )


class Server(uvicorn.Server):
    """A server that looks after its connections, and ends all streams when it is told to stop.

    Args:
        config: uvicorn's.
        app: the platform.
    """

    def __init__(self, config: uvicorn.Config, app: CeleriacApp) -> None:
        super().__init__(config)
        self._app = app
        api = app.settings.api
        self._unread_seconds = api.unread_seconds
        config.http, config.ws = connection_class(api), "none"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                # Those that it accepts inherit both.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                if sys.platform == "linux":
                    # What waits in the kernel counts, too.
                    unread_ms = int(self._unread_seconds * 1000)
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second, and tend all connections now and then."""
        if counter % int(TEND_SECONDS * 10) == 0:
            for connection in list(self.server_state.connections):
                connection.tend()  # type: ignore[union-attr]
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and then as ever."""
        self._app.task_events.close()
        await super().shutdown(sockets)


def connection_class(limits: ApiSettings) -> type[Connection]:
    """Make the class of a server's connections, of which there are no more than the process may open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.max_connections
    if files != resource.RLIM_INFINITY and most > files - OTHER_FILES:
        most = max(1, files - OTHER_FILES)
        log.warning("few_open_files", allowed=files, connections=most, way_out="raise the limit of open files (ulimit)")
    own = {"limits": limits, "most": most, "resting": {}, "waiting": {}}
    return type("LimitedConnection", (Connection,), own)


class _Closing:
    """Says `Connection: close` in an answer that comes before the end of its request."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send: Callable[[Any], Any] = cycle.send

    async def send(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        if self._cycle.more_body:
            self._cycle.keep_alive = False
        await self._send(message)


class _Lingering:
    """The transport of an answer that may come before the end of its request: it is then not closed at once."""

    def __init__(self, cycle: RequestResponseCycle, connection: Connection) -> None:
        self._cycle = cycle
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        if self._cycle.more_body:
            self._connection.linger()
        else:
            self._connection.transport.close()


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)


def _raw(problem: Problem, retry_after_seconds: int | None) -> bytes:
    body = problem.model_dump_json().encode()
    retry = "" if retry_after_seconds is None else f"retry-after: {retry_after_seconds}\r\n"
    head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    return STATUS_LINE[problem.status] + head.encode() + body
