"""Puts TLS before a server that speaks plainly, as stunnel does: the Redis of a wheel is built without it.

    python -m tests.tls_front LISTEN_PORT SERVER_PORT CERTIFICATE KEY AUTHORITY {clients,anyone,plain}

`clients`: who connects must show a certificate of the authority; `anyone`: nobody must; `plain`: nor speak TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from contextlib import suppress

#: What every TLS connection begins with: a record of its handshake.
_HANDSHAKE = b"\x16"


async def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    listen, target = int(arguments[0]), int(arguments[1])
    certificate, key, authority, who = arguments[2:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED if who == "clients" else ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", listen), backlog=256) as listener:
        listener.setblocking(False)
        tasks: set[asyncio.Task[None]] = set()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(_join(connection, target, context, sniff=who == "plain"))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def _join(connection: socket.socket, target: int, context: ssl.SSLContext, *, sniff: bool) -> None:
    with connection, suppress(OSError):
        plain = sniff and await _first_byte(connection) != _HANDSHAKE
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=None if plain else context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            transport.abort()
            return
        # As soon as either side has ended, so has the other.
        ways = [
            asyncio.create_task(_pass_on(reader, server_writer)),
            asyncio.create_task(_pass_on(server_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        transport.abort()
        server_writer.transport.abort()


async def _first_byte(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
