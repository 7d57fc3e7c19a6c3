"""Tasks that write what they do into the file that `TRIAL_LEDGER` names, one line each, also when they are killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from billiard import current_process
from celery import shared_task
from celery.signals import worker_process_init

from celeriac import Task
from celeriac.results import Records

#: A task that is never released gives up after so long, seconds.
HELD_SECONDS = 120


def note(*parts: object) -> None:
    """Append a line to the ledger."""
    ledger = os.open(os.environ["TRIAL_LEDGER"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(ledger, (" ".join(str(part) for part in parts) + "\n").encode())
    os.close(ledger)


@worker_process_init.connect
def start_slowly(**_: Any) -> None:
    """Hold the second process of a pool until it is released, where `TRIAL_SLOW_START` names the file that does it."""
    release = os.environ.get("TRIAL_SLOW_START")
    if release and current_process().index == 1:
        note("starting", os.getpid())
        deadline = time.monotonic() + 3.5  # Celery kills a process that is not up after four seconds
        while not Path(release).exists() and time.monotonic() < deadline:
            time.sleep(0.01)


@shared_task(bind=True)
def add(self: Any, x: int, y: int) -> int:
    """Note the start and add."""
    note("start", self.request.id, time.time())
    return x + y


@shared_task(bind=True, soft_time_limit=3000, time_limit=3600)
def sleep(self: Any, seconds: float) -> float:
    """Note start, token and end, and whether the lease is still held then."""
    note("start", self.request.id, time.time(), self.lease.token, self.request.hostname)
    time.sleep(seconds)
    note("end", self.request.id, time.time(), self.lease.still_mine())
    return seconds


@shared_task(bind=True)
def nap(self: Any, seconds: float) -> float:
    """Note the start and sleep, without a word to Redis."""
    note("start", self.request.id, time.time())
    time.sleep(seconds)
    return seconds


@shared_task(bind=True, soft_time_limit=3000, time_limit=3600)
def hold_the_lock(self: Any, seconds: int) -> int:
    """Keep the interpreter's lock: a call through PyDLL does not let go of it."""
    note("start", self.request.id, time.time())
    ctypes.PyDLL(None).sleep(seconds)
    note("end", self.request.id, time.time())
    return seconds


@shared_task(bind=True, max_retries=1)
def try_twice(self: Any, countdown: float) -> str:
    """Ask for a second try."""
    note("try", self.request.id, time.time())
    if self.request.retries == 0:
        raise self.retry(countdown=countdown)
    return "done"


@shared_task(bind=True)
def then(self: Any, *_results: object) -> str:
    """Follow other tasks in a chain or a chord."""
    note("then", self.request.id, time.time())
    return "then"


@shared_task(bind=True)
def write(self: Any, size: int) -> str:
    """Return so long a text."""
    note("start", self.request.id, time.time())
    return "x" * size


@shared_task(bind=True)
def write_and_die(self: Any, size: int) -> str:
    """Return so long a text; at the first start the process dies when the text is to be stored as its result."""
    note("start", self.request.id, time.time())
    if _starts(self) == 1:
        Records.store = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,method-assign]
    return "x" * size


@shared_task(bind=True)
def measure(self: Any, texts: str | list[str]) -> list[int]:
    """Return how long some texts are."""
    note("measure", self.request.id, time.time())
    return [len(text) for text in ([texts] if isinstance(texts, str) else texts)]


class Stumbling(Task):
    """A task whose hook fails, as only Celery itself can notice."""

    def on_failure(self, *_: Any) -> None:
        """Fail."""
        msg = "the hook fails, too"
        raise RuntimeError(msg)


@shared_task(bind=True, base=Stumbling)
def stumble(self: Any) -> None:
    """Fail, and fail to say so."""
    note("start", self.request.id, time.time())
    msg = "a mistake"
    raise ValueError(msg)


@shared_task(bind=True)
def leave(self: Any) -> NoReturn:
    """End the interpreter, as far as that is a task's to end."""
    note("start", self.request.id, time.time())
    sys.exit("leaving")


def _hold(task: Any) -> None:
    note("start", task.request.id, time.time())
    release = Path(os.environ["TRIAL_LEDGER"]).with_name(f"release-{_starts(task)}")
    deadline = time.monotonic() + HELD_SECONDS
    while not release.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _starts(task: Any) -> int:
    return len(ledger(Path(os.environ["TRIAL_LEDGER"]), "start", task.request.id))


@shared_task(bind=True)
def succeed_when_released(self: Any) -> str:
    """Wait for the file `release-<n>` at the n-th start, then succeed."""
    _hold(self)
    return "released"


@shared_task(bind=True)
def fail_when_released(self: Any) -> None:
    """Wait for the file `release-<n>` at the n-th start, then fail."""
    _hold(self)
    msg = "released"
    raise ValueError(msg)


@shared_task(bind=True, acks_late=False)
def fail_early_when_released(self: Any) -> None:
    """The same with a message that is acknowledged at the start."""
    _hold(self)
    msg = "released"
    raise ValueError(msg)


@shared_task
def errback(request: Any, error: BaseException, _traceback: Any) -> None:
    """Note that a task has failed."""
    note("errback", request.id, type(error).__name__)


def ledger(path: Path, kind: str, task_id: str | None = None) -> list[list[str]]:
    """The lines of one kind, split; of one task or of all."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line[0] == kind and task_id in {None, line[1]}]
