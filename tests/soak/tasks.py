"""Tasks that say in the ledger when they begin and end, and do nothing else of note.

Their environment: `SOAK_LEDGER` (its path), `SOAK_WORKER` (the name of this process group), `SOAK_RELEASES` (a folder
in which a file ends the tasks that wait for it).
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from celery import shared_task

from celeriac import PermanentError, Task, TemporaryError
from tests.soak.ledger import Ended, Ledger, Outcome, Started, now

#: Seconds until a task that waits for its release gives up.
PATIENCE_SECONDS = 120.0

_numbers = itertools.count()

if "SOAK_WORKER" in os.environ:
    # All threads' stacks go to the worker's log, also while one of them keeps the interpreter lock: see stacks.py.
    faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True)


class SoakTask(Task):
    """A task that may take two hours and is tried again soon."""

    default_retry_delay = 1
    retry_delay_max = 1
    soft_time_limit = 7200
    time_limit = 7300


@shared_task(bind=True, name="soak.work", base=SoakTask)
def work(self: Task, seconds: float, retries: int = 0, countdown: float | None = None, fails: bool = False) -> Any:
    """Take some time, ask for some retries, then succeed or fail.

    Args:
        self: the task.
        seconds: how long each attempt takes.
        retries: how many attempts ask for another.
        countdown: what they ask for by `self.retry`; None to raise a `TemporaryError` instead.
        fails: raise a `PermanentError` in the end.
    """
    with _told(self) as run:
        time.sleep(seconds)
        if self.request.retries < retries:
            error = TemporaryError("not yet")
            if countdown is None:
                raise error
            raise _RetryLater(countdown, error)
        if fails:
            message = "as planned"
            raise PermanentError(message)
        return {"run": run}


@shared_task(bind=True, name="soak.linger", base=SoakTask)
def linger(self: Task, release: str) -> dict[str, str]:
    """Wait for a file of that name among the releases."""
    path = Path(os.environ["SOAK_RELEASES"]) / release
    with _told(self) as run:
        deadline = now() + PATIENCE_SECONDS
        while not path.exists() and now() < deadline:
            time.sleep(0.02)
        return {"run": run}


@shared_task(bind=True, name="soak.hold_gil", base=SoakTask)
def hold_gil(self: Task, seconds: float) -> dict[str, Any]:
    """Keep the interpreter lock: no other thread of this process runs until it ends."""
    with _told(self) as run:
        longest, end = 0.0, now() + seconds
        while (left := end - now()) > 0:  # a signal may cut one call short
            began = now()
            ctypes.PyDLL(None).usleep(int(left * 1e6) + 1)
            longest = max(longest, now() - began)
        return {"run": run, "longest": longest}


class _RetryLater(Exception):
    """Ask for a retry by `Task.retry` once the ledger knows of it."""

    def __init__(self, countdown: float, error: Exception) -> None:
        super().__init__(countdown)
        self.countdown, self.error = countdown, error


@contextmanager
def _told(task: Task) -> Iterator[str]:
    """Write the start of an execution, give its name, write its end before its worker can know of it."""
    request = task.request
    run = f"{os.environ['SOAK_WORKER']}:{os.getpid()}:{next(_numbers)}"
    queue = (request.delivery_info or {}).get("routing_key") or ""
    _ledger().append(
        Started(
            at=now(),
            task=str(request.id),
            attempt=request.retries or 0,
            run=run,
            worker=os.environ["SOAK_WORKER"],
            queue=queue,
        )
    )
    try:
        yield run
    except TemporaryError:
        latest = now() + 1.25 * SoakTask.default_retry_delay  # the delay is spread by a quarter
        _ledger().append(Ended(at=now(), run=run, outcome=Outcome.RETRY, due=latest))
        raise
    except _RetryLater as later:
        _ledger().append(Ended(at=now(), run=run, outcome=Outcome.RETRY, due=now() + later.countdown))
        raise task.retry(countdown=later.countdown, exc=later.error) from None
    except PermanentError:
        _ledger().append(Ended(at=now(), run=run, outcome=Outcome.FAILURE))
        raise
    else:
        _ledger().append(Ended(at=now(), run=run, outcome=Outcome.SUCCESS))


@cache
def _ledger() -> Ledger:
    return Ledger(Path(os.environ["SOAK_LEDGER"]))
