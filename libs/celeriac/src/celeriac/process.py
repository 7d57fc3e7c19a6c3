"""What a process asks of its operating system."""

from __future__ import annotations

import ctypes
import signal
import sys

#: prctl(2)'s number for "send me a signal when my parent dies".
_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Be sent a signal when the parent process dies; Linux only, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
