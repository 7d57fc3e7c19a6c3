"""Keeps the messages of a living worker from being taken for lost.

kombu scores a message once, when it is delivered, and gives it to another worker when the score is older than the
visibility timeout: a task that runs longer runs twice (kombu#337). Renewing the scores turns the timeout into a lease,
which may then be short, so that a killed worker's messages come back in seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import structlog
from redis import Redis
from redis.exceptions import RedisError

from celeriac.broker import VISIBILITY_SECONDS

log = structlog.get_logger(__name__)

#: Five renewals fit into the visibility timeout.
RENEWAL_SECONDS = VISIBILITY_SECONDS / 5


class Renewal(threading.Thread):
    """A thread that renews until the process ends: a warm shutdown stops the worker's timers, but not its tasks.

    Args:
        client: a client of the broker's Redis.
        index_key: kombu's sorted set of delivered messages.
        delivered: gives the delivery tags that this worker holds now.
    """

    def __init__(self, client: Redis, index_key: str, delivered: Callable[[], Iterable[str]]) -> None:
        super().__init__(name="renewal", daemon=True)
        self._client = client
        self._index_key = index_key
        self._delivered = delivered

    def run(self) -> None:
        """Renew every `RENEWAL_SECONDS`."""
        while True:
            time.sleep(RENEWAL_SECONDS)
            try:
                self.renew()
            except RedisError as error:
                log.warning("renewal_failed", error=str(error))
            except RuntimeError:
                # The worker changed its sets while they were read: the next renewal comes well in time.
                log.debug("renewal_postponed")

    def renew(self) -> None:
        """Give every held message a new score, unless it was acknowledged in the meantime."""
        tags = list(self._delivered())
        if tags:
            now = time.time()  # kombu scores and judges by the clocks of workers
            self._client.zadd(self._index_key, dict.fromkeys(tags, now), xx=True)
