"""Tasks that leave a trace."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import shared_task

from celeriac import Task
from tests.trial import LEDGER_VARIABLE


@shared_task(name="trial.write")
def write(line: str, seconds: float = 0) -> str:
    """Wait, then add a line to the ledger, and return it."""
    time.sleep(seconds)
    with Path(os.environ[LEDGER_VARIABLE]).open("a") as ledger:
        ledger.write(f"{line}\n")
    return line


@shared_task(name="trial.add")
def add(*numbers: float) -> float:
    """Add numbers."""
    return sum(numbers)


@shared_task(name="trial.total")
def total(numbers: list[float]) -> float:
    """Add the results of a chord's header."""
    return sum(numbers)


@shared_task(name="trial.try_twice", bind=True, base=Task)
def try_twice(self: Task, countdown: float) -> int:
    """Succeed the second time; gives how often it has been tried before."""
    if self.request.retries == 0:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)
