"""Purge a queue, and tell the chords of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog

from celeriac.broker import messages
from celeriac.results import TaskState
from celeriac.results.deaths import request_of

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.results.backend import Backend

log = structlog.get_logger(__name__)


def purge(app: CeleriacApp, queue: str) -> int:
    """Drop all messages of a queue that wait, those that are not due yet included; their tasks become `REVOKED`.

    What workers hold stays; pause the queue before, and they begin nothing more. A chord fails when a part of it is
    cancelled, and its errbacks are called here. What was to follow a task in a chain never comes.

    Args:
        app: the platform.
        queue: its name.

    Returns:
        How many messages were dropped.

    Raises:
        RedisError: Redis is away; some may have been dropped.
    """
    backend = cast("Backend", app.backend)

    def tell(raw: bytes) -> None:
        message = messages.parse(raw)
        if message is not None:
            backend.finish_again(message["headers"]["id"], TaskState.REVOKED, request_of(message))

    purged = app.purge(queue, tell)
    log.info("queue_purged", queue=queue, purged=purged)
    return purged
