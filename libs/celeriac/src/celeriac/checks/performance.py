"""How fast tasks are submitted and run, and what they take of Redis."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import httpx

from celeriac.checks.deployment import ADD, LONG, POLL_SECONDS, CheckFailed
from celeriac.checks.load import submit_at_once
from celeriac.checks.run import Check, Measured, Run
from celeriac.client import ApiError
from celeriac.contract.tasks import TaskView

#: Within which 95 % of submits must be answered, ms.
SUBMIT_P95_MS = 100

#: How long accepted tasks may take to be run, seconds.
_BACKLOG_SECONDS = 300

#: Tasks of which the time to run is measured, and the pause between two of them, which keeps workers idle, seconds.
_EXECUTIONS, _EXECUTION_PAUSE_SECONDS = 50, 0.05

#: A worker holds some tasks more than it runs: with so many per slot, and so long ones, every slot gets its share.
_TASKS_PER_SLOT, _CONCURRENT_SECONDS = 8, 0.25

#: Keys without an expiry by which Redis may grow with any number of tasks: indexes and the like.
LASTING_KEYS = 50

#: Redis memory that 1,000 tasks may take, a tenth of 1 GB, MB.
MEMORY_MB = 100


def measure_submits(run: Run, clients: int) -> Measured:
    """Submit from some clients at once, and see that all that was accepted is run."""
    load = submit_at_once(run.url, run.token, name=ADD, args=[1, 2], clients=clients, requests=run.sizes.requests)
    accepted = len(load.task_ids)
    run.deployment.wait_all(load.task_ids, _BACKLOG_SECONDS)
    success = 100 * accepted / run.sizes.requests
    notes = [f"{count} x {reason}" for reason, count in load.failures.most_common(3)]
    notes.append(f"the clients used {load.core:.0%} of a core")
    return Measured(
        passed=accepted == run.sizes.requests and load.p95_ms < SUBMIT_P95_MS,
        figure=f"mean {load.mean_ms:.1f} ms, P95 {load.p95_ms:.1f} ms, {success:g} % of {run.sizes.requests:,}",
        note=", ".join(notes),
        values={
            "mean_ms": load.mean_ms,
            "p95_ms": load.p95_ms,
            "success_percent": success,
            "clients": clients,
            "requests": run.sizes.requests,
        },
    )


def measure_execution(run: Run) -> Measured:
    """Let idle workers run short tasks, one at a time, and take the times of their records."""
    task_ids = []
    for _ in range(_EXECUTIONS):
        task_ids.append(run.deployment.submit(ADD, 1, 2))
        time.sleep(_EXECUTION_PAUSE_SECONDS)
    tasks = run.deployment.wait_all(task_ids, _BACKLOG_SECONDS)
    seconds = [_moment(task.finished_at) - _moment(task.submitted_at) for task in tasks]
    return Measured(
        passed=True,  # `wait_all` has seen all of them succeed
        figure=f"mean {statistics.fmean(seconds):.3f} s",
        note=f"{len(tasks)} tasks, from submit to end; the slowest {max(seconds):.3f} s",
        values={"mean_seconds": statistics.fmean(seconds), "slowest_seconds": max(seconds)},
    )


def measure_concurrency(run: Run) -> Measured:
    """Give every slot work and count how many tasks run at the same time."""
    slots = run.deployment.slots
    task_ids = run.deployment.submit_all(LONG, [[_CONCURRENT_SECONDS, 1]] * (_TASKS_PER_SLOT * slots))
    most = _overlap(run.deployment.wait_all(task_ids, _BACKLOG_SECONDS))
    return Measured(
        passed=most >= slots,
        figure=f"{most} tasks at a time on {slots} slots",
        values={"at_a_time": most, "slots": slots},
    )


def measure_memory(run: Run) -> Measured:
    """Submit many tasks in one go, and see how full Redis gets and that nothing of them stays for ever."""
    deployment, count = run.deployment, run.sizes.tasks
    before = deployment.client.show_redis()
    task_ids = deployment.submit_all(ADD, [[number, 1] for number in range(count)])
    used = [deployment.client.show_redis().used_memory_bytes]
    while _backlog(run):
        used.append(deployment.client.show_redis().used_memory_bytes)
        time.sleep(POLL_SECONDS)
    deployment.wait_all(task_ids, _BACKLOG_SECONDS)
    after = deployment.client.show_redis()
    used.append(after.used_memory_bytes)
    base = before.used_memory_bytes
    growth, kept = max(used) - base, used[-1] - base
    lasting = (after.keys - after.expiring_keys) - (before.keys - before.expiring_keys)
    returned, note = _given_back(run, task_ids[-1], base, kept)
    per_thousand = growth / 1e6 * 1000 / count
    return Measured(
        passed=per_thousand < MEMORY_MB and lasting <= LASTING_KEYS and returned,
        figure=f"{per_thousand:.1f} MB for 1,000 tasks at most, {max(used) / 1e6:.1f} MB in all",
        note=f"{note}; {max(lasting, 0)} new keys that do not expire",
        values={"mb_per_1000_tasks": per_thousand, "used_mb": max(used) / 1e6, "lasting_keys": lasting},
    )


def _given_back(run: Run, task_id: str, base: int, kept: int) -> tuple[bool, str]:
    """Wait, if that was asked for, until results have expired and at least half of their memory is free."""
    if not run.sizes.expiry_seconds:
        return True, "it is given back when results expire, which was not waited for (--await-expiry)"
    began = time.monotonic()
    while time.monotonic() < began + run.sizes.expiry_seconds:
        now = run.deployment.client.show_redis().used_memory_bytes - base
        if _expired(run, task_id) and now <= kept / 2:
            return True, f"{kept / 1e6:.1f} MB were down to {now / 1e6:.1f} MB after {time.monotonic() - began:.0f} s"
        time.sleep(1)
    return False, f"{kept / 1e6:.1f} MB were not given back within {run.sizes.expiry_seconds:g} s"


def _expired(run: Run, task_id: str) -> bool:
    try:
        run.deployment.client.show_task(task_id)
    except ApiError as error:
        if error.http_status == httpx.codes.NOT_FOUND:
            return True
        raise
    return False


def _backlog(run: Run) -> int:
    """Tasks that wait or run."""
    queue = run.deployment.client.show_queue(run.deployment.queue)
    return queue.ready + queue.in_flight


def _overlap(tasks: Sequence[TaskView]) -> int:
    """How many tasks ran at the same time, at most."""
    if not tasks:
        raise CheckFailed("no task was run")
    ends = [(_moment(task.finished_at), -1) for task in tasks]
    running = most = 0
    for _, step in sorted([*ends, *((_moment(task.started_at), 1) for task in tasks)]):
        running += step
        most = max(most, running)
    return most


def _moment(text: str | None) -> float:
    assert text is not None  # noqa: S101 - of a task that has ended
    return datetime.fromisoformat(text).timestamp()


_SUBMIT_LIMIT = f"P95 < {SUBMIT_P95_MS} ms and 100 % success, {{}} clients at once"

SUBMIT = Check("submit-speed", "submit speed (mean ms)", _SUBMIT_LIMIT.format(10), partial(measure_submits, clients=10))
EXECUTION = Check("execution-speed", "execution speed (mean s)", "every task succeeds", measure_execution)
CONCURRENCY = Check("concurrency", "concurrency", "every slot runs a task at the same time", measure_concurrency)
MEMORY = Check("redis-memory", "Redis memory (MB)", f"< {MEMORY_MB} MB for 1,000 tasks, given back", measure_memory)
CLIENTS = Check("100-concurrent", "100 concurrent", _SUBMIT_LIMIT.format(100), partial(measure_submits, clients=100))
