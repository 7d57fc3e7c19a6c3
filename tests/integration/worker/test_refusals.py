"""What a worker does while Redis answers and refuses, and how it hears of tasks that end in other threads."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest
import redis

from celeriac import CeleriacApp
from tests.integration.worker.test_leases import start
from tests.platform import Platform, wait_for

Lines = Callable[..., list[list[str]]]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_outlives_a_redis_that_has_too_few_replicas_and_goes_on(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis, pool: str
):
    supervisor = psutil.Process(start(trial, app, "--pool", pool, "--concurrency", "2"))
    (worker,) = supervisor.children()
    running = app.send_task("tests.workload_tasks.nap", args=[1], queue="trial")
    wait_for(lambda: lines("start", running.id), "the task to start")
    client.config_set("min-replicas-to-write", 1)
    try:
        wait_for(lambda: "NOREPLICAS" in trial.log("worker-trial"), "the worker, which has a free slot, to be refused")
        refused_at = time.monotonic()
        wait_for(lambda: time.monotonic() > refused_at + 2, "further attempts")
    finally:
        client.config_set("min-replicas-to-write", 0)
    assert running.get(timeout=20) == 1
    assert app.send_task("tests.workload_tasks.add", args=[2, 2], queue="trial").get(timeout=20) == 4
    assert supervisor.children() == [worker], "it was not replaced by another"
    assert len(lines("start", running.id)) == 1
    wait_for(lambda: not client.exists("celeriac:inflight"), "all acknowledgements")


def test_the_end_of_a_task_in_a_thread_makes_room_for_the_next_at_once(trial: Platform, app: CeleriacApp, lines: Lines):
    """The loop looks for itself only twice a second."""
    tasks = [app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial") for _ in range(40)]
    start(trial, app, "--pool", "threads", "--concurrency", "1", CELERIAC_WORKER__PREFETCH_MULTIPLIER="1")
    assert [task.get(timeout=60) for task in tasks] == [2] * 40
    starts = [float(line[2]) for line in lines("start")]
    assert max(starts) - min(starts) < 40 * 0.5 / 3
