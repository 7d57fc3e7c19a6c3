"""The probes of a worker and of Beat: a small HTTP server in a thread of the main process.

| path | 200 while |
| --- | --- |
| `/health/live` | the loop turns, or has stood still for less than `stuck_seconds`, or Redis does not answer |
| `/health/ready` | the process does what it is for, as the function that it was given says |

Both bodies carry the worker counts, in total and per queue, as far as Redis can be reached. Answers take
milliseconds; no worker is asked by broadcast.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from celeriac.registry.directory import count_by_queue
from celeriac.registry.pulse import Pulse

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

#: Says what keeps a process from being ready; None when nothing does. It may raise `RedisError`.
NotReady = Callable[[], str | None]


class Probes:
    """Judges one process.

    Args:
        app: its platform.
        pulse: the pulse of its main loop.
        not_ready: what keeps it from being ready.
    """

    def __init__(self, app: CeleriacApp, pulse: Pulse, not_ready: NotReady) -> None:
        self._app = app
        self._pulse = pulse
        self._not_ready = not_ready

    def live(self) -> tuple[HTTPStatus, dict[str, Any]]:
        """Judge whether the process should go on living."""
        counts = self._counts()
        silent = self._pulse.silent_seconds
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

    def serve(self) -> ThreadingHTTPServer | None:
        """Start the server, if the settings give it a port; it ends with the process."""
        settings = self._app.settings.probe
        if not settings.port:
            return None
        probes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                judges = {"/health/live": probes.live, "/health/ready": probes.ready}
                judge = judges.get(self.path)
                status, body = judge() if judge else (HTTPStatus.NOT_FOUND, {"paths": sorted(judges)})
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing: a probe every few seconds is no event."""

        server = ThreadingHTTPServer((settings.host, settings.port), Handler)
        threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
        log.info("probes_served", port=settings.port)
        return server

    def _counts(self) -> dict[str, Any] | None:
        try:
            workers = self._app.probe_registry.workers()
        except RedisError:
            return None
        queues = count_by_queue(workers, (queue.name for queue in self._app.queues))
        return {"total": len(workers), "queues": queues}


def _answer(
    status: HTTPStatus, body: dict[str, Any], counts: dict[str, Any] | None
) -> tuple[HTTPStatus, dict[str, Any]]:
    return status, body if counts is None else body | {"workers": counts}
