"""The probes of a worker and of Beat: a small HTTP server in a thread of the main process.

| path | 200 while |
| --- | --- |
| `/health/live` | the loop turns, or has stood still for less than `stuck_seconds`, or Redis does not answer |
| `/health/ready` | the process does what it is for, as the function that it was given says |

Further pages, such as `/metrics`, are those that it was given. Both bodies of the probes carry the worker counts, in
total and per queue, as far as Redis can be reached. Answers take milliseconds; no worker is asked by broadcast.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from celeriac.errors import ConfigurationError
from celeriac.registry.directory import count_by_queue

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

#: Says what keeps a process from being ready; None when nothing does. It may raise `RedisError`.
NotReady = Callable[[], str | None]


@dataclass(frozen=True)
class Answer:
    """A page."""

    status: HTTPStatus
    content_type: str
    content: bytes


class Probes:
    """Judges one process.

    Args:
        app: its platform.
        silent_seconds: gives how long its main loop has stood still.
        not_ready: what keeps it from being ready.
        pages: further pages by path.
    """

    def __init__(
        self,
        app: CeleriacApp,
        *,
        silent_seconds: Callable[[], float],
        not_ready: NotReady,
        pages: Mapping[str, Callable[[], Answer]] | None = None,
    ) -> None:
        self._app = app
        self._silent_seconds = silent_seconds
        self._not_ready = not_ready
        self._pages = {"/health/live": self._live_page, "/health/ready": self._ready_page, **(pages or {})}

    def live(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Judge whether the process should go on living."""
        counts = self._counts()
        silent = self._silent_seconds()
        # A loop that waits for Redis stands still, too; a restart would not bring Redis back.
        stuck = silent > self._app.settings.probe.stuck_seconds and counts is not None
        body = {"status": "stuck" if stuck else "alive", "loop_silent_seconds": round(silent, 1)}
        return _answer(HTTPStatus.SERVICE_UNAVAILABLE if stuck else HTTPStatus.OK, body, counts)

    def ready(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Judge whether the process does what it is for."""
        try:
            reason = self._not_ready()
        except RedisError as error:
            reason = f"Redis cannot be reached ({type(error).__name__})"
        body = {"status": "ready"} if reason is None else {"status": "not ready", "reason": reason}
        status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
        return _answer(status, body, self._counts())

    def page(self, path: str) -> Answer:
        """Answer a request for a path."""
        page = self._pages.get(path)
        return page() if page else _json(HTTPStatus.NOT_FOUND, {"paths": sorted(self._pages)})

    def _live_page(self) -> Answer:
        return _json(*self.live())

    def _ready_page(self) -> Answer:
        return _json(*self.ready())

    def listen(self) -> ThreadingHTTPServer | None:
        """Open the port that the settings name, and answer nothing yet; None if they name none.

        Raises:
            ConfigurationError: the port cannot be opened.
        """
        settings = self._app.settings.probe
        if not settings.port:
            return None
        probes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = probes.page(self.path)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing: a probe every few seconds is no event."""

        try:
            return ThreadingHTTPServer((settings.host, settings.port), Handler)
        except OSError as error:
            msg = f"CELERIAC_PROBE__PORT={settings.port}: {error.strerror}; choose a free port, or 0 for no probes"
            raise ConfigurationError(msg) from error

    def serve(self, server: ThreadingHTTPServer | None = None) -> None:
        """Answer, in a thread that ends with the process.

        Args:
            server: what `listen` gave, if it was called before.
        """
        server = server or self.listen()
        if server is not None:
            threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
            log.info("probes_served", port=server.server_port)

    def _counts(self) -> dict[str, Any] | None:
        try:
            workers = self._app.probe_registry.workers()
        except RedisError:
            return None
        queues = count_by_queue(workers, (queue.name for queue in self._app.queues))
        return {"total": len(workers), "queues": queues}


def _json(status: HTTPStatus, body: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode())


def _answer(
    status: HTTPStatus, body: dict[str, Any], counts: dict[str, Any] | None
) -> tuple[HTTPStatus, dict[str, Any]]:
    return status, body if counts is None else body | {"workers": counts}
