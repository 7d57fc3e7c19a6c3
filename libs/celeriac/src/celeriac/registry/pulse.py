"""Whether a process' main loop still turns."""

from __future__ import annotations

import time


class Pulse:
    """Beaten by a loop at each turn, and read by the probe server of the same process.

    A loop that has not begun counts as turning until it has begun: start-up has a probe of its own.
    """

    def __init__(self) -> None:
        self._last: float | None = None

    def beat(self) -> None:
        """Note a turn of the loop."""
        self._last = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether the loop has turned at all."""
        return self._last is not None

    @property
    def silent_seconds(self) -> float:
        """Time since the last turn; 0 before the first."""
        return 0.0 if self._last is None else time.monotonic() - self._last
