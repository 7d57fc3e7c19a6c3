"""Raw connections to a running API, for clients that behave as no library lets them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.platform import TOKEN, Platform, wait_for

#: What the API is given here; its own limits are longer.
HEAD_SECONDS, BODY_SECONDS, UNREAD_SECONDS = 2, 2, 3
MAX_CONNECTIONS = 300

#: A good request is answered within this, seconds; other tests run beside it.
GOOD_SECONDS = 5
#: What the API may grow by, MiB.
GROWTH_MIB = 60
#: Files that come and go: Redis, the log.
FEW_FILES = 12


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """Its body, where it is a problem."""
        assert self.headers["content-type"] == "application/problem+json", (self.headers, self.body[:200])
        found: dict[str, Any] = json.loads(self.body)
        return found


class HostileApi:
    """`celeriac api` with short limits, and what it costs.

    Args:
        folder: where its data lies.
        redis_url: its Redis.
    """

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.platform = Platform(
            folder,
            redis_url,
            f"sqlite:///{folder / 'celeriac.db'}",
            CELERIAC_API__HEAD_SECONDS=str(HEAD_SECONDS),
            CELERIAC_API__BODY_SECONDS=str(BODY_SECONDS),
            CELERIAC_API__UNREAD_SECONDS=str(UNREAD_SECONDS),
            CELERIAC_API__MAX_CONNECTIONS=str(MAX_CONNECTIONS),
        )
        self.process = psutil.Process(self.platform.start_api().pid)
        self.good()
        self._files = self.process.num_fds()
        self._bytes = self.process.memory_info().rss

    def good(self) -> None:
        """Send good requests over a connection of their own, and refuse if they take long."""
        options: dict[str, Any] = {"timeout": GOOD_SECONDS, "headers": {"Authorization": f"Bearer {TOKEN}"}}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.platform.port}", **options) as client:
            assert client.get("/health/live").status_code == 200
            submitted = client.post("/tasks", json={"name": "examples.add", "args": [1, 2]})
            assert submitted.status_code == 202, submitted.text
            assert client.get(submitted.json()["status_url"]).status_code == 200

    def is_well(self) -> None:
        """Refuse where it does not serve, has met a mistake of ours, or keeps what clients have left."""
        self.good()
        log = self.platform.log("api")
        for mistake in ("unexpected_error", "Exception in ASGI", "Traceback", "never retrieved"):
            assert mistake not in log, log[log.index(mistake) :][:6000][-2000:]
        wait_for(lambda: self.process.num_fds() <= self._files + FEW_FILES, "connections to be closed", 20)
        grown = (self.process.memory_info().rss - self._bytes) / 2**20
        assert grown < GROWTH_MIB, f"the API has grown by {grown:.0f} MiB"

    async def connect(self, *, receive_buffer: int | None = None) -> Wire:
        """Open a connection.

        Args:
            receive_buffer: what may wait to be read, bytes; by default Linux' own several MiB.
        """
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.platform.port))
        return Wire(*await asyncio.open_connection(sock=client, limit=receive_buffer or 2**16))

    async def ask(self, raw: bytes, *, seconds: float = 20) -> Answer | None:
        """Send bytes over a connection of their own and read an answer; None where there is none."""
        wire = await self.connect()
        try:
            wire.send(raw)
            return await asyncio.wait_for(wire.read(), seconds)
        finally:
            wire.cut()


class Wire:
    """A connection on which anything can be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, raw: bytes) -> None:
        """Send bytes, as they are."""
        self._writer.write(raw)

    async def flush(self) -> None:
        """Wait until they are on their way; raises where the API has hung up."""
        await self._writer.drain()

    async def read(self) -> Answer | None:
        """Read an answer; None where the connection ends without one."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if line)
        status = int(first.split()[1])
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        else:
            body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        return Answer(status, fields, body)

    async def ended(self, seconds: float) -> bool:
        """Whether the API hangs up within some seconds; whatever it sends before is dropped."""
        with suppress(ConnectionError):
            try:
                async with asyncio.timeout(seconds):
                    while await self._reader.read(65536):
                        pass
            except TimeoutError:
                return False
        return True

    def cut(self) -> None:
        """Hang up at once."""
        self._writer.transport.abort()


def head(method: str = "GET", path: str = "/tasks/one", *fields: str, token: str | None = TOKEN) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: api", *fields]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def submit(body: bytes, *, kind: str | None = "application/json", path: str = "/tasks") -> bytes:
    """A submit with any body."""
    fields = [f"Content-Length: {len(body)}", *([f"Content-Type: {kind}"] if kind is not None else [])]
    return head("POST", path, *fields) + body


async def all_ended(wires: Iterable[Wire], seconds: float) -> int:
    """How many of the connections end within some seconds."""
    return sum(await asyncio.gather(*(wire.ended(seconds) for wire in wires)))
