"""What a trial is still to do, by time."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from tests.soak.ledger import now

#: How often the condition of `run_until` is looked at, seconds.
TICK_SECONDS = 0.05


class Agenda:
    """Actions at their times, done one after the other in the caller's thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._actions: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after some seconds; an action may put others on the agenda."""
        heapq.heappush(self._actions, (now() + seconds, next(self._numbers), action))

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something again and again, `seconds` after it was last done."""

        def again() -> None:
            action()
            self.after(seconds, again)

        self.after(seconds, again)

    def run_until(self, condition: Callable[[], bool], timeout_seconds: float = float("inf")) -> bool:
        """Do what is due until a condition holds; False where the time ran out before."""
        deadline = now() + timeout_seconds
        while not condition():
            if now() > deadline:
                return False
            if self._actions and self._actions[0][0] <= now():
                heapq.heappop(self._actions)[2]()
            else:
                time.sleep(TICK_SECONDS)
        return True
