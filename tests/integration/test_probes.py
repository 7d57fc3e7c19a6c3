"""The probes of workers and Beat."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
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


def test_a_worker_whose_loop_stands_still_is_not_alive(platform: Platform, probe: str):
    # The loop cannot turn more often than every 5 s, so that with a limit of 1 s it soon counts as standing still.
    platform.environment["CELERIAC_PROBE__STUCK_SECONDS"] = "1"
    platform.start("worker", "default")
    wait_for(lambda: status(f"{probe}/live") == 503, "the worker to count as stuck")
    assert body(f"{probe}/live")["status"] == "stuck"


def test_beat_is_ready_when_it_schedules(platform: Platform, probe: str):
    beat = platform.start("beat")
    wait_for(lambda: status(f"{probe}/ready") == 200, "Beat to be ready")
    assert status(f"{probe}/live") == 200
    assert body(f"{probe}/ready")["workers"]["total"] == 0
    os.killpg(beat.pid, signal.SIGTERM)
    assert beat.wait(30) == 0
