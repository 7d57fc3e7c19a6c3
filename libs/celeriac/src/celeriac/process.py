"""What a process asks of its operating system."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: prctl(2)'s number for "send me a signal when my parent dies".
_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Be sent a signal when the parent process dies; Linux only, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def allow_many_connections() -> None:
    """Let this process have as many open files and connections as the system allows, not only 1,024 as is usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sys.platform == "linux" and soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def deferred_signals(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Hold signals back until a safe point, for work that must not be interrupted just anywhere.

        with deferred_signals(signal.SIGTERM) as safe_point:
            for batch in batches:
                write(batch)
                safe_point()    # what the signal's handler does, such as raising SystemExit, happens here

    Celery terminates a task and tells it of its soft time limit by signals whose handlers raise: an exception in the
    middle of a database driver's work leaves its connection in a transaction that nobody ends. Outside of the main
    thread, where no signal arrives, nothing is held back. What is still pending at the end of the block happens then.

    Args:
        numbers: the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pending: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        pending.append((number, frame))

    handlers = {int(number): signal.signal(number, note) for number in numbers}

    def safe_point() -> None:
        while pending:
            number, frame = pending.pop(0)
            handler = handlers[number]
            if callable(handler):
                handler(number, frame)
            else:
                signal.signal(number, handler)
                os.kill(os.getpid(), number)

    try:
        yield safe_point
    finally:
        for number, handler in handlers.items():
            # A handler that has run may have put another in its own place.
            if signal.getsignal(number) is note:
                signal.signal(number, handler)
    safe_point()
