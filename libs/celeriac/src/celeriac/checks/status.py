"""Submit, follow and cancel a task."""

from __future__ import annotations

import time

from celeriac.checks.deployment import LONG, POLL_SECONDS, CheckFailed
from celeriac.checks.run import Check, Measured, Run

#: How long a task may take to begin, and to be cancelled, seconds.
LIMIT_SECONDS = 10


def measure(run: Run) -> Measured:
    """Submit a task, follow it until it reports progress, cancel it and follow it until it is `REVOKED`."""
    client = run.deployment.client
    task_id = run.deployment.submit(LONG, 60, 120)
    try:
        seen = _follow(run, task_id, "PROGRESS")
    finally:
        began = time.monotonic()
        client.cancel_task(task_id)
    seen += _follow(run, task_id, "REVOKED")
    seconds = time.monotonic() - began
    return Measured(
        passed=True,
        figure=f"REVOKED {seconds:.2f} s after it was cancelled",
        note=f"seen: {', '.join(seen)}",
        values={"revoked_seconds": seconds},
    )


def _follow(run: Run, task_id: str, until: str) -> list[str]:
    """The states that a task was seen in, up to one."""
    seen: list[str] = []
    deadline = time.monotonic() + LIMIT_SECONDS
    while until not in seen:
        if time.monotonic() > deadline:
            msg = f"a task was not {until} within {LIMIT_SECONDS} s; it was {', '.join(seen)}"
            raise CheckFailed(msg)
        state = run.deployment.client.show_task(task_id).state
        if state not in seen:
            seen.append(state)
        time.sleep(POLL_SECONDS)
    return seen


STATUS = Check("status", "status", f"submit, follow, cancel: REVOKED within {LIMIT_SECONDS} s", measure)
