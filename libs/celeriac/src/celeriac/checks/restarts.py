"""What becomes of running tasks when a worker, or everything, is killed and started again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from celeriac.checks.deployment import LONG, POLL_SECONDS, CheckFailed, is_away
from celeriac.checks.run import Check, Measured, Run
from celeriac.checks.target import Part, stopped
from celeriac.client import ApiError, Client
from celeriac.errors import Unavailable

#: Within which unfinished tasks must run again, seconds from the start of the worker's process.
WORKER_SECONDS, STACK_SECONDS = 10, 30

#: How much longer it is watched, to give the figure of what came too late, seconds.
_PATIENCE_SECONDS = 10

#: How long tasks may take to begin before anything is killed, seconds.
_BEGIN_SECONDS = 30

#: Tasks that are interrupted, if there are so many slots.
_MOST = 20


def measure(run: Run, part: Part, limit_seconds: float) -> Measured:
    """Kill a part while tasks run, start it again, and see when they run again and that they end well."""
    deployment, client = run.deployment, run.deployment.client
    task_ids = [deployment.submit(LONG, run.sizes.task_seconds, 10) for _ in range(min(deployment.slots, _MOST))]
    before = _started(run, task_ids)
    killed_at = time.monotonic()
    with stopped(run.target, part):
        pass
    began = time.monotonic()
    again: dict[str, float] = {}
    undisturbed = 0
    left = set(task_ids)
    while left and time.monotonic() < began + limit_seconds + _PATIENCE_SECONDS:
        for task in _read(client, left):
            if task.get("started_at") != before[task["task_id"]]:
                again[task["task_id"]] = time.monotonic() - began
                left.remove(task["task_id"])
            elif task["ready"]:
                undisturbed += 1
                left.remove(task["task_id"])
        time.sleep(POLL_SECONDS)
    if left:
        msg = f"{len(left)} of {len(task_ids)} tasks did not run again within {limit_seconds + _PATIENCE_SECONDS:g} s"
        raise CheckFailed(msg)
    if undisturbed:
        msg = (
            f"{undisturbed} of {len(task_ids)} tasks ended as if nothing had been killed: was the {part.value} stopped?"
        )
        raise CheckFailed(msg)
    deployment.wait_all(task_ids, run.sizes.task_seconds + 60)
    if part is Part.STACK:
        uptime = deployment.patiently(client.redis, limit_seconds)["uptime_seconds"]
        if uptime > time.monotonic() - killed_at + 1:
            msg = f"Redis was not restarted: it has been up for {uptime} s"
            raise CheckFailed(msg)
    slowest = max(again.values())
    return Measured(
        passed=slowest <= limit_seconds,
        figure=f"{slowest:.1f} s",
        note=f"{len(task_ids)} running tasks killed, none lost",
        values={"again_seconds": slowest, "tasks": len(task_ids)},
    )


def _started(run: Run, task_ids: list[str]) -> dict[str, str]:
    """Wait until tasks run; when each was started."""
    deadline = time.monotonic() + _BEGIN_SECONDS
    while True:
        tasks = [run.deployment.client.task(task_id) for task_id in task_ids]
        if all("started_at" in task for task in tasks):
            return {task["task_id"]: task["started_at"] for task in tasks}
        if time.monotonic() > deadline:
            msg = f"{len(tasks)} tasks on as many slots were not all started within {_BEGIN_SECONDS} s"
            raise CheckFailed(msg)
        time.sleep(POLL_SECONDS)


def _read(client: Client, task_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Read tasks, as far as the API answers."""
    tasks = []
    for task_id in list(task_ids):
        try:
            tasks.append(client.task(task_id))
        except (ApiError, Unavailable) as error:
            if not is_away(error):
                raise
            break
    return tasks


RECOVERY = Check(
    "recovery",
    "recovery",
    f"unfinished tasks run again within {WORKER_SECONDS} s of the worker's restart, none is lost",
    partial(measure, part=Part.WORKER, limit_seconds=WORKER_SECONDS),
)

RESTART = Check(
    "restart-recovery",
    "restart recovery",
    f"the same within {STACK_SECONDS} s when the whole stack restarts",
    partial(measure, part=Part.STACK, limit_seconds=STACK_SECONDS),
)
