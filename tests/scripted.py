"""An HTTP server that answers each request as it is told beforehand, or does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """What one request gets."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Hang up in the place of an answer.
    hangs_up: bool = False


@dataclass(frozen=True)
class Asked:
    """What was asked for."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def problem(status: int, code: str, **headers: str) -> Reply:
    """A refusal."""
    body = {"type": f"urn:celeriac:error:{code}", "title": code, "status": status, "detail": "it is tired"}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class ScriptedApi:
    """Answers requests one after the other; the last reply is for all that come after it.

    Args:
        replies: the answers.
    """

    def __init__(self, *replies: Reply) -> None:
        self.asked: list[Asked] = []
        self._replies: Sequence[Reply] = replies
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(content) if content else None
                api.asked.append(Asked(self.command, self.path, dict(self.headers), body))
                reply = api._replies[min(len(api.asked), len(api._replies)) - 1]
                if reply.hangs_up:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                answer = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(answer)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the base class' names

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
