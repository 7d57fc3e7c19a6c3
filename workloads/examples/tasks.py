"""The tasks."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task

from celeriac import PermanentError, Task
from workloads.examples import mail


@shared_task(name="examples.add")
def add(x: float, y: float) -> float:
    """Add two numbers."""
    return x + y


@shared_task(name="examples.process_data")
def process_data(data: list[Any]) -> dict[str, Any]:
    """Count what it is given."""
    return {"processed": True, "count": len(data)}


@shared_task(name="examples.send_email", bind=True, base=Task)
def send_email(self: Task, to: str, subject: str = "", body: str = "") -> dict[str, str]:
    """Send a mail through the SMTP server of the settings; one that does not answer is tried again."""
    mail.send(self.platform.settings.smtp, to, subject, body)
    return {"status": "success", "to": to}


@shared_task(name="examples.long_running", bind=True, base=Task)
def long_running(self: Task, seconds: float = 10, steps: int = 10) -> dict[str, Any]:
    """Work for some seconds and report progress at every step."""
    if seconds < 0 or steps < 1:
        msg = f"seconds must be 0 or more and steps 1 or more (got {seconds!r} and {steps!r})"
        raise PermanentError(msg)
    for step in range(1, steps + 1):
        time.sleep(seconds / steps)
        self.progress(step, steps, message=f"step {step} of {steps}")
    return {"status": "completed", "result": steps}
