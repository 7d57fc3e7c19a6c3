"""Waiting for Redis or the file store to come back, where giving up would lose what has been done."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from celeriac.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A worker that has done something waits so long for Redis to tell it, seconds.
PATIENCE_SECONDS = 600

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


def patiently(what: str, do: Callable[[], T], seconds: float) -> T:
    """Do something; while Redis or the file store is away, try again.

    Args:
        what: what it is, for the log.
        do: does it; it must be safe to do twice.
        seconds: how long to try.

    Raises:
        RedisError: Redis stayed away.
        Unavailable: the file store did.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    waited = False
    while True:
        try:
            done = do()
        except (RedisError, OSError, Unavailable) as error:
            if time.monotonic() + pause > deadline:
                raise
            if not waited:
                log.warning("waiting_for_store", what=what, error=str(error))
            waited = True
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            continue
        if waited:
            log.info("store_is_back", what=what)
        return done
