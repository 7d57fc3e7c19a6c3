"""What becomes of running tasks when a worker, or everything, is killed and started again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from celeriac.checks.deployment import LONG, POLL_SECONDS, CheckFailed, is_away
from celeriac.checks.run import Check, Measured, Run
from celeriac.checks.target import Part, stopped
from celeriac.client import ApiError
from celeriac.errors import Unavailable

#: Within which unfinished tasks must run again, seconds from the start of the worker's process.
WORKER_SECONDS, STACK_SECONDS = 10, 30

#: How much longer it is watched, to give the figure of what came too late, seconds.
_PATIENCE_SECONDS = 10

#: How long tasks may take to begin before anything is killed, seconds.
_BEGIN_SECONDS = 30

#: Tasks that are interrupted, if there are so many slots, and the steps that they report.
_MOST, _STEPS = 20, 10


def measure(run: Run, part: Part, limit_seconds: float) -> Measured:
    """Kill a part while tasks run, start it again, and see when they run again and that they end well."""
    deployment = run.deployment
    started = _begin(run, min(deployment.slots, _MOST))
    killed_at = time.monotonic()
    with stopped(run.target, part):
        pass
    slowest = _watch(run, started, part, limit_seconds + _PATIENCE_SECONDS)
    deployment.wait_all(started, run.sizes.task_seconds + 60)
    if part is Part.STACK:
        uptime = deployment.patiently(deployment.client.show_redis, limit_seconds).uptime_seconds
        if uptime > time.monotonic() - killed_at + 1:
            msg = f"Redis was not restarted: it has been up for {uptime} s"
            raise CheckFailed(msg)
    return Measured(
        passed=slowest <= limit_seconds,
        figure=f"{slowest:.1f} s",
        note=f"{len(started)} running tasks killed, none lost",
        values={"again_seconds": slowest, "tasks": len(started)},
    )


def _begin(run: Run, count: int) -> Mapping[str, str]:
    """Have some tasks run, all with at least half of their time ahead; when each was started."""
    deployment = run.deployment
    deadline = time.monotonic() + _BEGIN_SECONDS
    while time.monotonic() < deadline:
        task_ids = [deployment.submit(LONG, run.sizes.task_seconds, _STEPS) for _ in range(count)]
        half_done = False
        while not half_done and time.monotonic() < deadline:
            tasks = [deployment.client.show_task(task_id) for task_id in task_ids]
            half_done = any(task.ready or (task.current or 0) > _STEPS / 2 for task in tasks)
            started = {task.task_id: task.started_at for task in tasks if task.started_at is not None}
            if not half_done and len(started) == count:
                return started
            time.sleep(POLL_SECONDS)
        # A slot was not free yet, and kept one waiting. It is when all have ended.
        deployment.wait_all(task_ids, _BEGIN_SECONDS + count * run.sizes.task_seconds)
    msg = f"{count} tasks on as many slots did not all run at the same time within {_BEGIN_SECONDS} s"
    raise CheckFailed(msg)


def _watch(run: Run, started: Mapping[str, str], part: Part, seconds: float) -> float:
    """Wait until tasks have been started once more; how long the last of them took, from now.

    Raises:
        CheckFailed: not all were.
    """
    began = time.monotonic()
    left, slowest = set(started), 0.0
    while left and time.monotonic() < began + seconds:
        for task_id in sorted(left):
            try:
                task = run.deployment.client.show_task(task_id)
            except (ApiError, Unavailable) as error:
                if not is_away(error):
                    raise
                break
            if task.started_at != started[task_id]:
                left.remove(task_id)
                slowest = time.monotonic() - began
            elif task.ready:
                msg = f"a task ended as if nothing had been killed: was the {part.value} stopped?"
                raise CheckFailed(msg)
        time.sleep(POLL_SECONDS)
    if left:
        msg = f"{len(left)} of {len(started)} tasks did not run again within {seconds:g} s"
        raise CheckFailed(msg)
    return slowest


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
