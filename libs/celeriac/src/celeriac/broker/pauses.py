"""Paused queues: their messages stay where they are until they are resumed.

What is paused goes on accepting messages, those that become due among them, and what its workers have begun comes to
its end. It stays paused whatever is restarted; a Redis that loses its last second may lose the last pause with it.

Stock Celery workers know no pauses.
"""

from __future__ import annotations

from typing import cast

from redis import Redis

from celeriac.broker import scripts
from celeriac.broker.keys import Keys


class Pauses:
    """Pauses and resumes queues.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._pause = client.register_script(scripts.source("pause"))
        self._resume = client.register_script(scripts.source("resume"))

    def pause(self, queue: str) -> bool:
        """Let nothing be claimed from a queue until it is resumed; False where it was paused already."""
        return bool(self._pause(args=[self._keys.prefix, queue]))

    def resume(self, queue: str) -> bool:
        """Let a queue be claimed from again, by idle workers at once; False where it was not paused."""
        return bool(self._resume(args=[self._keys.prefix, queue]))

    def queues(self) -> set[str]:
        """The queues that are paused."""
        return cast("set[str]", self._client.smembers(self._keys.paused))
