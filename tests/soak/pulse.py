"""Tells what was slow for reasons of the machine: without it, its stalls would look like stalls of Celeriac."""

from __future__ import annotations

import threading
from typing import Self

import redis
from redis.exceptions import RedisError

from tests.soak.ledger import Slow, now
from tests.soak.rig import Rig

#: What took longer than this is worth a line, seconds.
SLOW_SECONDS = 0.25
#: How often it is looked, seconds.
BEAT_SECONDS = 0.05


class Pulse:
    """A thread that sleeps and writes to Redis in turn, and tells the ledger when either takes long."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with redis.Redis.from_url(self._rig.server.url, socket_timeout=5) as client:
            while True:
                began = now()
                if self._stopping.wait(BEAT_SECONDS):
                    return
                self._tell("machine", now() - began - BEAT_SECONDS)
                began = now()
                try:
                    client.set("soak:pulse", 1, px=1000)
                except RedisError:
                    continue  # it is away, of which the ledger knows
                self._tell("Redis", now() - began)

    def _tell(self, what: str, seconds: float) -> None:
        if seconds > SLOW_SECONDS:
            self._rig.ledger.append(Slow(at=now(), what=what, seconds=round(seconds, 3)))
