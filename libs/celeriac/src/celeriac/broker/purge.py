"""Purging a queue: what waits in it is dropped, and its tasks are cancelled.

It goes in steps that each take Redis a few milliseconds, and drops no more than there was when it began; workers
may take theirs meanwhile. What workers hold stays.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from celery.exceptions import TaskRevokedError
from redis import Redis

from celeriac.broker import scripts
from celeriac.broker.endings import result_parts
from celeriac.broker.keys import Keys
from celeriac.broker.leases import LEASE_SECONDS

#: Messages of one step.
_STEP = 50


class Purge:
    """Purges queues.

    Args:
        client: a client of the platform's Redis that does not decode responses, for messages may hold any bytes.
        keys: the names of keys.
        expires_seconds: how long the records and results of the cancelled tasks are kept.
        clock: see `scripts.source`; for tests.
    """

    def __init__(self, client: Redis, keys: Keys, *, expires_seconds: int, clock: str | None = None) -> None:
        self._client = client
        self._keys = keys
        self._expires_seconds = expires_seconds
        self._script = client.register_script(scripts.source("purge", clock))
        self._acknowledge = client.register_script(scripts.source("acknowledge"))
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, queue: str, tell: Callable[[bytes], None] | None = None) -> int:
        """Purge a queue.

        Args:
            queue: its name.
            tell: told the message of each task that is part of a group; one that fails, or is killed, leaves the
                message to its lease, which returns it to its queue. None to tell nobody: a chord then waits in vain.

        Returns:
            How many messages were dropped.

        Raises:
            RedisError: Redis is away; some may have been dropped.
        """
        dropped = 0
        for ready_list, size in self._sizes(queue).items():
            end = dropped + size
            while dropped < end and (found := self._step(queue, ready_list, min(end - dropped, _STEP), tell)):
                dropped += found
        return dropped

    def _sizes(self, queue: str) -> dict[str, int]:
        """How many messages wait, by ready list; under '' those that are not due, which would come into the others."""
        lists = self._keys.ready_lists(queue)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zcard(self._keys.delayed(queue))
            for name in lists:
                pipe.llen(name)
            return dict(zip(["", *lists], pipe.execute(), strict=True))

    def _step(self, queue: str, ready_list: str, wanted: int, tell: Callable[[bytes], None] | None) -> int:
        lease = "" if tell is None else int(LEASE_SECONDS * 1000)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        args: list[str | int] = [self._keys.prefix, queue, ready_list, wanted, now, self._expires_seconds]
        found, *leased = self._script(
            args=[*args, *result_parts("REVOKED", TaskRevokedError, "purged", now), lease, self._owner]
        )
        if tell is not None and leased:
            for raw in leased[1::2]:
                tell(raw)
            ends = [part for tag in leased[::2] for part in (queue, tag)]
            self._acknowledge(args=[self._keys.prefix, *ends])
        return int(found)
