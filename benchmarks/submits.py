"""What the platform writes for a submit, written as fast as Redis takes it, or at a given rate."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from celeriac import CeleriacApp, create_app
from celeriac.broker.keys import Keys
from celeriac.settings import Settings

QUEUE = Keys().ready("default")
RECORD_PREFIX = Keys().task("")
#: Replies to one submit: of HSET, EXPIRE and LPUSH.
REPLIES = 3


@dataclass(frozen=True)
class Request:
    """A submit as Redis gets it, in one piece, with a placeholder for the task's id."""

    template: bytes
    placeholder: bytes
    message_bytes: int

    @classmethod
    def of_the_platform(cls, url: str) -> Request:
        """Let the platform publish a task to an empty Redis, and take what it wrote."""
        with closing(Publisher(url)) as publisher:
            publisher.submit()
        with redis.Redis.from_url(url, decode_responses=True) as client:
            key = next(client.scan_iter(match=f"{RECORD_PREFIX}*"))
            fields: Any = client.hgetall(key)
            message = str(client.lindex(QUEUE, 0))
        commands = [
            ["HSET", key, *itertools.chain(*fields.items())],
            ["EXPIRE", key, "604800"],
            ["LPUSH", QUEUE, message],
        ]
        task_id = json.loads(message)["headers"]["id"]
        return cls(b"".join(map(_encode, commands)), task_id.encode(), len(message))

    def numbered(self, number: int) -> tuple[str, bytes]:
        """The id and the bytes of one task's submit."""
        task_id = f"{number:0{len(self.placeholder)}d}"
        return task_id, self.template.replace(self.placeholder, task_id.encode())


def _encode(command: list[str]) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Publisher:
    """The platform's own submit, which writes record and message by one script."""

    def __init__(self, url: str) -> None:
        settings = {"redis_url": url, "workloads": ["workloads.examples"]}
        self._app: CeleriacApp = create_app(Settings.model_validate(settings))

    def submit(self) -> None:
        """Submit one task."""
        self._app.send_task("examples.add", args=[1, 2])

    def close(self) -> None:
        """Close its connections."""
        self._app.close()
        self._app.redis.close()


class Acknowledged(NamedTuple):
    """One submit that Redis answered."""

    task_id: str
    #: The clock (`time.perf_counter`) when the answer came.
    at: float
    #: From sending to the answer, seconds.
    took: float


def publish(url: str, threads: int, work: Callable[[], object]) -> list[Acknowledged]:
    """Submit by the platform's own way from some threads of this process, while something else is done."""
    acknowledged: list[Acknowledged] = []
    done = threading.Event()

    def submit_on() -> None:
        while not done.is_set():
            sent = time.perf_counter()
            publisher.submit()
            now = time.perf_counter()
            acknowledged.append(Acknowledged("", now, now - sent))

    with closing(Publisher(url)) as publisher, ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(submit_on) for _ in range(threads)]
        try:
            work()
        finally:
            done.set()
        for each in running:
            each.result()
    return acknowledged


async def write(
    port: int, request: Request, connections: int, work: Callable[[], object], rate: float = 0.0
) -> list[Acknowledged]:
    """Write while something else is done in a thread.

    Args:
        port: Redis' on the loopback interface.
        request: what to write.
        connections: how many write; each sends its next submit when its last is answered.
        work: what is done meanwhile; writing ends when it returns or when Redis is gone.
        rate: submits per second of all connections at most; 0 for as many as they can.

    Raises:
        RuntimeError: Redis refused a submit.
    """
    load = _Load(request, itertools.count(), connections / rate if rate else 0.0)
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.to_thread(work)
    await asyncio.sleep(0.1)  # answers that were sent before Redis was gone are still read
    for transport, _ in made:
        transport.abort()
    if load.refusal is not None:
        msg = f"Redis refused a submit: {load.refusal!r}"
        raise RuntimeError(msg)
    return load.acknowledged


@dataclass
class _Load:
    request: Request
    numbers: Iterator[int]
    #: Seconds between two submits of one connection, at least.
    interval: float
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refusal: bytes | None = None


class _Connection(asyncio.Protocol):
    """Parses nothing but ends of lines: a client that did more would be slower than Redis."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._replies = 0
        self._task_id = ""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if b"-" in data:
            self._load.refusal = data
            self._transport.abort()
        self._replies += data.count(b"\n")
        if self._replies < REPLIES:
            return
        self._replies = 0
        now = time.perf_counter()
        self._load.acknowledged.append(Acknowledged(self._task_id, now, now - self._sent))
        if (wait := self._sent + self._load.interval - now) > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        self._task_id, data = self._load.request.numbered(next(self._load.numbers))
        self._sent = time.perf_counter()
        self._transport.write(data)
