"""The probes of workers and Beat."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import httpx
import psutil
import pytest

from tests.platform import Platform, wait_for
from tests.servers import RedisServer, free_port


@pytest.fixture
def probe(platform: Platform) -> str:
    """The address of the probe server that the next process starts."""
    port = free_port()
    platform.environment["CELERIAC_PROBE__PORT"] = str(port)
    return f"http://127.0.0.1:{port}/health"


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=15).status_code
    except httpx.HTTPError:
        return 0


def body(url: str) -> dict[str, Any]:
    return dict(httpx.get(url, timeout=15).json())


def test_a_worker_is_ready_when_it_consumes_its_queues(platform: Platform, probe: str):
    worker = platform.start("worker", "default", "scheduled")
    wait_for(lambda: status(f"{probe}/ready") == 200, "the worker to be ready")
    counted = {"total": 1, "queues": {"data_sync": 0, "default": 1, "scheduled": 1}}
    wait_for(lambda: body(f"{probe}/ready")["workers"] == counted, "the worker to count itself")
    assert body(f"{probe}/live")["workers"] == counted
    assert body(f"{probe}/live")["status"] == "alive"
    assert status(f"{probe}/other") == 404
    worker.terminate()
    assert worker.wait(30) == 0
    assert status(f"{probe}/live") == 0


def test_a_worker_without_redis_lives_but_is_not_ready(platform: Platform, probe: str):
    with RedisServer() as server:
        platform.environment["REDIS_URL"] = server.url
        platform.start("worker", "default")
        wait_for(lambda: status(f"{probe}/ready") == 200, "the worker to be ready")
        server.kill()
        wait_for(lambda: status(f"{probe}/ready") == 503, "the worker to notice")
        assert "Redis" in body(f"{probe}/ready")["reason"]
        assert status(f"{probe}/live") == 200
        assert "workers" not in body(f"{probe}/live")
        server.start()
        wait_for(lambda: status(f"{probe}/ready") == 200, "the worker to consume again", 60)


def test_a_worker_whose_loop_stands_still_while_it_holds_a_task_is_not_alive(platform: Platform, probe: str):
    platform.environment["CELERIAC_PROBE__STUCK_SECONDS"] = "6"
    platform.start_api()
    worker = platform.start_worker("default")
    platform.wait_for_state(platform.submit("examples.long_running", 300, 300), "PROGRESS")
    (main,) = psutil.Process(worker.pid).children()
    main.suspend()
    wait_for(lambda: status(f"{probe}/live") == 503, "the worker to count as stuck")
    assert body(f"{probe}/live")["status"] == "stuck"
    assert "stood still" in body(f"{probe}/ready")["reason"]
    main.resume()
    wait_for(lambda: status(f"{probe}/live") == 200, "the worker to count as alive again")


def test_a_worker_that_is_stuck_without_a_task_is_replaced(platform: Platform, probe: str):
    platform.environment["CELERIAC_PROBE__STUCK_SECONDS"] = "6"
    worker = platform.start("worker", "default")
    started = time.monotonic()
    wait_for(lambda: status(f"{probe}/ready") == 200, "the worker to be ready")
    (main,) = psutil.Process(worker.pid).children()
    wait_for(lambda: time.monotonic() - started > 12, "it to have lived long enough to be replaced at once")
    main.suspend()
    wait_for(lambda: not main.is_running(), "the stuck process to be killed")
    wait_for(lambda: status(f"{probe}/ready") == 200, "another to be ready in its place")
    assert worker.poll() is None


def test_metrics_count_and_time_tasks(platform: Platform, probe: str):
    platform.start_api()
    platform.start_worker("default")
    for _ in range(3):
        platform.wait(platform.submit("examples.add", 1, 2))
    platform.wait(platform.submit("examples.long_running", -1))

    def values() -> dict[str, float]:
        text = httpx.get(probe.replace("/health", "/metrics"), timeout=15).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    added = 'queue="default",state="SUCCESS",task="examples.add"'
    wait_for(lambda: values().get(f"celeriac_tasks_total{{{added}}}") == 3, "the three to be counted")
    failed = 'queue="default",state="FAILURE",task="examples.long_running"'
    assert values()[f"celeriac_tasks_total{{{failed}}}"] == 1
    timed = '{queue="default",task="examples.add"}'
    assert values()[f"celeriac_task_run_seconds_count{timed}"] == 3
    assert 0 < values()[f"celeriac_task_run_seconds_sum{timed}"] < 5
    assert values()[f"celeriac_task_wait_seconds_count{timed}"] == 3


def test_beat_is_ready_when_it_schedules(platform: Platform, probe: str):
    beat = platform.start("beat")
    wait_for(lambda: status(f"{probe}/ready") == 200, "Beat to be ready")
    assert status(f"{probe}/live") == 200
    assert body(f"{probe}/ready")["workers"]["total"] == 0
    os.killpg(beat.pid, signal.SIGTERM)
    assert beat.wait(30) == 0
