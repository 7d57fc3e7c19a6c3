"""A load of HTTP requests that costs the measured processes as little of the machine as Python allows."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What a run took."""

    #: Of each request, from its first byte to the last of its answer.
    seconds: list[float]
    per_second: float


def run(port: int, path: str, body: bytes, *, token: str, connections: int, requests: int) -> Load:
    """Send the same request many times, each connection the next one when it has its answer.

    Args:
        port: where on loopback.
        path: the path.
        body: JSON.
        token: the bearer token.
        connections: how many, all kept alive.
        requests: how many in all.

    Raises:
        AssertionError: an answer was not 202.
    """
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    request = "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body
    return asyncio.run(_run(port, request, connections, requests))


async def _run(port: int, request: bytes, connections: int, requests: int) -> Load:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    seconds: list[float] = []
    left = requests

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length, head
            answer = await reader.readexactly(int(length[1]))
            assert head.startswith(b"HTTP/1.1 202"), head + answer
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(send(reader, writer) for reader, writer in streams))
    took = time.perf_counter() - began
    for _, writer in streams:
        writer.close()
    return Load(seconds, requests / took)
