"""Paused queues, by real workers."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import httpx
import pytest
import redis

from celeriac import CeleriacApp
from tests.platform import Platform, wait_for
from tests.servers import free_port

Lines = Callable[..., list[list[str]]]


def publish(app: CeleriacApp, task: str, *args: object, **options: object) -> str:
    return str(app.send_task(f"tests.workload_tasks.{task}", args=args, queue="trial", **options).id)


def start_worker(trial: Platform, app: CeleriacApp, *options: str) -> None:
    trial.start("worker", "trial", *options)
    wait_for(app.registry.workers, "the worker to count")


def test_what_runs_ends_what_waits_stays_and_the_worker_counts_as_ready(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    port = free_port()
    trial.environment["CELERIAC_PROBE__PORT"] = str(port)
    start_worker(trial, app, "--concurrency", "1")
    running = publish(app, "sleep", 1.5)
    wait_for(lambda: lines("start", running), "the task to start")
    app.pauses.pause("trial")
    waiting = [publish(app, "add", number, 1) for number in range(20)]
    waiting.append(publish(app, "add", 1, 1, countdown=1))
    wait_for(lambda: app.records.require(running).result == 1.5, "what runs to end")
    wait_for(lambda: client.llen("trial") == len(waiting), "what was delayed to become due")
    # Longer than a worker with free slots may leave a backlog alone.
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=15).status_code == 200
        time.sleep(0.5)
    assert client.llen("trial") == len(waiting)
    app.pauses.resume("trial")
    wait_for(lambda: all(app.records.require(task_id).state == "SUCCESS" for task_id in waiting), "all to run")
    assert len(lines("start")) == 1 + len(waiting)


def test_what_a_worker_holds_behind_a_long_task_stays_in_the_queue_that_is_paused(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    start_worker(trial, app, "--concurrency", "1")
    for _ in range(30):
        short = publish(app, "add", 1, 1)
        wait_for(lambda task_id=short: app.records.require(task_id).state == "SUCCESS", "a short task")
    held = [publish(app, "sleep", 2) for _ in range(4)]
    wait_for(lambda: client.zcard("celeriac:leases:trial") > 1, "more than one to be leased")
    app.pauses.pause("trial")
    wait_for(lambda: client.zcard("celeriac:leases:trial") == 1, "the others to be returned", 2)
    wait_for(lambda: client.zcard("celeriac:leases:trial") == 0, "the one that runs to end")
    assert [json.loads(raw)["headers"]["id"] for raw in client.lrange("trial", 0, -1)] == held[:0:-1]


@pytest.mark.last
def test_idle_workers_begin_within_50_ms_of_the_end_of_a_pause(trial: Platform, app: CeleriacApp, lines: Lines):
    start_worker(trial, app, "--concurrency", "2")
    seconds = []
    for number in range(15):
        app.pauses.pause("trial")
        task_id = publish(app, "add", number, 1)
        time.sleep(0.1 + number % 5 * 0.15)
        resumed = time.time()
        app.pauses.resume("trial")
        (line,) = wait_for(lambda task_id=task_id: lines("start", task_id), "the task to start")
        seconds.append(float(line[2]) - resumed)
    assert statistics.median(seconds) < 0.05, seconds
