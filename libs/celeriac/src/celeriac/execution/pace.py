"""How fast a worker's tasks are: whether it pays to hold messages that have no slot yet.

Behind short tasks a message that waits in the worker saves a round trip. Behind a long one it would wait while another
worker has a slot for it: then a worker claims no more than it has free slots, and returns what waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

#: Tasks that take less than this on average are short, seconds.
SHORT_SECONDS = 0.05

#: A task that has run for so long is a long one, seconds.
LONG_SECONDS = 0.25

#: Of each new run time, this much goes into the average.
_WEIGHT = 0.2


class Pace:
    """The average run time of a worker's tasks, the latest first."""

    def __init__(self) -> None:
        self._average: float | None = None

    def ran(self, seconds: float) -> None:
        """Note how long a task ran."""
        self._average = seconds if self._average is None else (1 - _WEIGHT) * self._average + _WEIGHT * seconds

    def is_short(self, running: Iterable[Any]) -> bool:
        """Whether tasks are short, those that run now included.

        Args:
            running: the requests that run now.
        """
        return self._average is not None and self._average < SHORT_SECONDS and not has_long(running)


def has_long(running: Iterable[Any]) -> bool:
    """Whether one of these requests has run for long."""
    now = time.time()
    return any(request.time_start and now - request.time_start > LONG_SECONDS for request in running)


#: Of this worker.
PACE = Pace()
