"""Tasks that write what they do into the file that `TRIAL_LEDGER` names, one line each, also when they are killed."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task


def note(*parts: object) -> None:
    """Append a line to the ledger."""
    ledger = os.open(os.environ["TRIAL_LEDGER"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(ledger, (" ".join(str(part) for part in parts) + "\n").encode())
    os.close(ledger)


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


def ledger(path: Path, kind: str, task_id: str | None = None) -> list[list[str]]:
    """The lines of one kind, split; of one task or of all."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line[0] == kind and task_id in {None, line[1]}]
