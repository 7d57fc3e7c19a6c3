"""Celery stays Celery: what its users type and read, on leases."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from celery import Celery

from celeriac import CeleriacApp
from tests.integration.worker.test_leases import start
from tests.platform import Platform, wait_for

Lines = Callable[..., list[list[str]]]


def celery(trial: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Celery's own command line on the platform."""
    command = [Path(sys.executable).with_name("celery"), "-A", "celeriac.app", *arguments]
    return subprocess.run(command, env=trial.environment, capture_output=True, text=True, timeout=60, check=False)


def test_inspect_shows_what_runs_what_waits_and_what_is_delayed(trial: Platform, app: CeleriacApp, lines: Lines):
    start(trial, app, "--concurrency", "1")
    running, waiting = (app.send_task("tests.workload_tasks.sleep", args=[20], queue="trial") for _ in range(2))
    later = app.send_task("tests.workload_tasks.add", args=[1, 2], kwargs={}, queue="trial", countdown=60)
    wait_for(lambda: lines("start"), "the first to start")
    inspect = app.control.inspect(timeout=3, limit=1)  # with a limit it waits no longer than for the answer
    (active,) = inspect.active().values()
    assert [task["id"] for task in active] == [running.id]
    (reserved,) = inspect.reserved().values()
    assert reserved == [], "what has no slot waits in the queue, where any worker may take it"
    assert [json.loads(raw)["headers"]["id"] for raw in app.redis.lrange("trial", 0, -1)] == [waiting.id]
    (scheduled,) = inspect.scheduled().values()
    assert [(entry["request"]["id"], entry["request"]["args"]) for entry in scheduled] == [(later.id, [1, 2])]
    due = datetime.fromisoformat(scheduled[0]["eta"])
    assert timedelta(seconds=30) < due - datetime.now(UTC) < timedelta(seconds=61)
    (queues,) = inspect.active_queues().values()
    assert [queue["name"] for queue in queues] == ["trial"]
    (registered,) = inspect.registered().values()
    assert "tests.workload_tasks.add" in registered
    (stats,) = inspect.stats().values()
    assert stats["pool"]["max-concurrency"] == 1
    answer = celery(trial, "inspect", "scheduled", "--json")
    assert later.id in answer.stdout, answer.stderr


def test_a_task_that_is_revoked_by_remote_control_while_no_worker_is_up_never_runs(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    ready = app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial")
    delayed = app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", countdown=1)
    typed = app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial")
    app.control.revoke([ready.id, delayed.id])
    celery(trial, "control", "revoke", typed.id)  # exits with an error, as no worker answers
    assert [app.AsyncResult(task.id).state for task in (ready, delayed, typed)] == ["REVOKED"] * 3
    assert client.zcard("celeriac:delayed:trial") == 0, "what was delayed is gone at once"
    start(trial, app)
    assert app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial").get(timeout=20) == 2
    assert len(lines("start")) == 1
    assert client.llen("trial") == 0


def test_a_task_that_runs_and_is_revoked_without_terminate_comes_to_its_end(
    trial: Platform, app: CeleriacApp, lines: Lines
):
    start(trial, app)
    task = app.send_task("tests.workload_tasks.sleep", args=[2], queue="trial")
    wait_for(lambda: lines("start", task.id), "the task to start")
    app.control.revoke(task.id)
    assert task.get(timeout=20) == 2


def test_retries_of_a_queue_without_workers_are_ready_when_they_are_due(
    trial: Platform, app: CeleriacApp, client: redis.Redis
):
    trial.start_api()
    for countdown in (0.3, 0.6, 600):
        app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", countdown=countdown)
    wait_for(lambda: client.llen("trial") == 2, "the API to move the two that are due", 5)
    assert client.zcard("celeriac:delayed:trial") == 1


def test_a_full_worker_keeps_nothing_due_waiting_that_another_could_run(
    trial: Platform, app: CeleriacApp, lines: Lines
):
    start(trial, app, "--concurrency", "1")
    app.send_task("tests.workload_tasks.sleep", args=[15], queue="trial")
    wait_for(lambda: lines("start"), "the worker to be busy")
    start(trial, app, "--concurrency", "1")
    task = app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", countdown=1)
    due = time.time() + 1
    assert task.get(timeout=10) == 2
    assert float(lines("start", task.id)[0][2]) - due < 1


def test_purge_drops_what_waits_and_counts_it(trial: Platform, app: CeleriacApp, client: redis.Redis):
    tasks = [
        app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", countdown=countdown, priority=7)
        for countdown in (None, None, 600)
    ]
    answer = celery(trial, "purge", "-f", "-Q", "trial")
    assert "3 messages" in answer.stdout, answer.stdout + answer.stderr
    assert not client.keys("trial*")
    assert not client.keys("celeriac:delayed*")
    assert {app.records.state(task.id) for task in tasks} == {"REVOKED"}


def test_messages_of_stock_publishers_are_consumed_their_delays_too(trial: Platform, app: CeleriacApp, lines: Lines):
    start(trial, app)
    stock = Celery("stock", broker=trial.environment["REDIS_URL"], set_as_current=False)
    stock.conf.broker_transport_options = {"sep": ":", "priority_steps": list(range(10))}
    now = stock.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", priority=9)
    published = time.time()
    later = stock.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial", countdown=3)
    (started,) = wait_for(lambda: lines("start", now.id), "the first to start")
    assert float(started[2]) - published < 1.5
    assert app.redis.zcard("celeriac:delayed:trial") == 1, "a delay waits in the broker, whoever published it"
    (started,) = wait_for(lambda: lines("start", later.id), "the delayed one to start")
    assert 2.9 < float(started[2]) - published < 4


def test_ready_messages_are_what_stock_tools_read(app: CeleriacApp, client: redis.Redis):
    app.send_task("tests.workload_tasks.add", args=[1, 2**70, [], {}], queue="trial")
    assert client.llen("trial") == 1
    message = json.loads(client.lindex("trial", 0))
    assert message["properties"]["delivery_info"] == {"exchange": "", "routing_key": "trial"}
    assert message["headers"]["task"] == "tests.workload_tasks.add"
    assert message["headers"]["retries"] == 0


def test_a_task_called_eagerly_runs_where_it_was_called(
    app: CeleriacApp, monkeypatch, tmp_path: Path, client: redis.Redis
):
    monkeypatch.setenv("TRIAL_LEDGER", str(tmp_path / "ledger"))
    app.conf.task_always_eager = True
    assert app.tasks["tests.workload_tasks.add"].delay(1, 2).get() == 3
    assert not client.keys("celeriac:task:*")


def test_a_redis_that_may_drop_messages_is_refused(trial: Platform, client: redis.Redis):
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        refused = trial.run("worker", "trial")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert refused.returncode == 1
    assert "maxmemory-policy allkeys-lru" in refused.stderr
    assert "noeviction" in refused.stderr
