"""Tasks that show the API whatever they are given: as a result, an error, progress."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Ignore


@shared_task(name="contract.give_back")
def give_back(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Give it back."""
    return {"args": args, "kwargs": kwargs}


@shared_task(name="contract.fail")
def fail(*args: Any, **kwargs: Any) -> None:
    """Fail for it."""
    raise ValueError(*args, kwargs)


@shared_task(name="contract.report", bind=True)
def report(self: Any, *args: Any, **kwargs: Any) -> None:
    """Report it as progress, and never come to an end."""
    names = ("current", "total", "percent", "message")
    self.update_state(state="PROGRESS", meta={**dict.fromkeys(names, kwargs), **dict(zip(names, args, strict=False))})
    raise Ignore


TASKS = (give_back.name, fail.name, report.name)
