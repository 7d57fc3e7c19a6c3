"""The HTTP server: uvicorn, and what it does not know of clients that listen."""

from __future__ import annotations

import socket
import sys
from typing import Final

import uvicorn

from celeriac.platform import CeleriacApp

#: A client that reads nothing of what was sent to it for so long is dropped by the kernel, seconds. Linux only:
#: elsewhere it is kept, at what the buffers of its connection take.
UNREAD_SECONDS: Final = 30


class Server(uvicorn.Server):
    """Ends all streams when it is told to stop, instead of waiting for them, and drops clients that do not read.

    Args:
        config: uvicorn's.
        app: the platform.
    """

    def __init__(self, config: uvicorn.Config, app: CeleriacApp) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if sys.platform != "linux":
            return
        for server in self.servers:
            for listening in server.sockets:
                # Those that it accepts inherit it.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and then as ever."""
        self._app.task_events.close()
        await super().shutdown(sockets)
