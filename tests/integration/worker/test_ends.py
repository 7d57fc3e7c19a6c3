"""How tasks end: each is told of once and counted once, and holds nothing afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from celery import chord, group

from celeriac import CeleriacApp
from celeriac.results import TaskRecord, TaskState
from tests.integration.worker.test_leases import after_short_tasks, start
from tests.platform import Platform, wait_for
from tests.servers import free_port

Lines = Callable[..., list[list[str]]]

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture
def metrics(trial: Platform) -> Callable[[], dict[str, float]]:
    """What the next worker has counted."""
    port = free_port()
    trial.environment["CELERIAC_PROBE__PORT"] = str(port)

    def values() -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=15).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    return values


def counted(values: dict[str, float], task: str) -> dict[str, float]:
    """How many ends of a task were counted, by state."""
    suffix = f',task="tests.workload_tasks.{task}"}}'
    start = 'celeriac_tasks_total{queue="trial",state="'
    found = {name: value for name, value in values.items() if name.startswith(start) and name.endswith(suffix)}
    return {name.removeprefix(start).removesuffix(f'"{suffix}'): value for name, value in found.items()}


def task(app: CeleriacApp, name: str) -> Any:
    return app.tasks[f"tests.workload_tasks.{name}"]


def ended(app: CeleriacApp, task_id: str) -> TaskRecord | None:
    """The record of a task that has ended."""
    record = app.records.get(task_id)
    return record if record and record.state.ready else None


def release(trial: Platform, number: int) -> None:
    """Let the tasks go that were started for the n-th time."""
    (Path(trial.environment["TRIAL_LEDGER"]).with_name(f"release-{number}")).touch()


def wait_for_nothing_held(client: redis.Redis) -> None:
    held = ("celeriac:inflight", "celeriac:leases:trial", "celeriac:started")
    wait_for(lambda: not client.exists(*held), "nothing to be held")


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_whose_failure_hook_fails_has_failed_and_holds_nothing(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis, metrics: Callable[[], Any], pool: str
):
    start(trial, app, "--pool", pool, "--concurrency", "1")
    stumbling = task(app, "stumble").delay()
    wait_for(lambda: lines("start", stumbling.id), "the task to start")
    wait_for_nothing_held(client)
    record = app.records.require(stumbling.id)
    assert record.state is TaskState.FAILURE
    assert len(lines("start", stumbling.id)) == 1
    wait_for(lambda: counted(metrics(), "stumble") == {"FAILURE": 1}, "one failure to be counted")
    assert task(app, "add").delay(1, 1).get(timeout=20) == 2, "the slot is free"


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_exits_is_given_up_in_the_end(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis, pool: str
):
    start(trial, app, "--pool", pool, "--concurrency", "1")
    leaving = task(app, "leave").delay()
    wait_for(lambda: client.llen("celeriac:dead:trial"), "its message to be a dead letter")
    assert app.records.require(leaving.id).state is TaskState.FAILURE
    assert len(lines("start", leaving.id)) == 5
    wait_for_nothing_held(client)


def test_a_task_that_is_to_be_terminated_before_it_begins_holds_nothing_in_a_pool_that_cannot(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    start(trial, app, "--pool", "threads", "--concurrency", "1")
    after_short_tasks(app)
    running, waiting = [task(app, "succeed_when_released").delay() for _ in range(2)]
    wait_for(lambda: client.zcard("celeriac:leases:trial") == 2, "the second to wait in the worker")
    app.control.revoke(waiting.id, terminate=True, reply=True, timeout=5)
    release(trial, 1)
    assert running.get(timeout=20) == "released"
    wait_for_nothing_held(client)
    assert app.records.require(waiting.id).state is TaskState.REVOKED
    assert lines("start", waiting.id) == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])  # with solo it is only known at the end
def test_a_task_that_is_acknowledged_early_is_counted_at_its_end(
    trial: Platform, app: CeleriacApp, lines: Lines, metrics: Callable[[], Any], pool: str
):
    start(trial, app, "--pool", pool, "--concurrency", "2")
    failing = task(app, "fail_early_when_released").delay()
    wait_for(lambda: lines("start", failing.id), "the task to start")
    wait_for(lambda: not app.redis.exists("celeriac:inflight"), "the early acknowledgement")
    assert counted(metrics(), "fail_early_when_released") == {}
    release(trial, 1)
    wait_for(lambda: counted(metrics(), "fail_early_when_released") == {"FAILURE": 1}, "one failure to be counted")
    assert app.records.require(failing.id).state is TaskState.FAILURE


def test_what_follows_a_failed_task_fails_with_a_record_of_its_own(trial: Platform, app: CeleriacApp, lines: Lines):
    start(trial, app)
    release(trial, 1)
    fail, then = task(app, "fail_when_released"), task(app, "then")
    chained = (fail.s() | then.si().set(priority=7) | then.si().set(queue="other")).delay()
    joined = chord([fail.s(), task(app, "add").si(1, 1)])(then.s())
    many = chord([fail.s(), task(app, "add").si(1, 1)])(group(then.s(), then.s().set(queue="other")))
    for unpublished, queue, priority, error in [
        (chained, "other", 5, "ValueError"),
        (chained.parent, "trial", 7, "ValueError"),
        (joined, "trial", 5, "ChordError"),
        (many.results[0], "trial", 5, "ValueError"),
        (many.results[1], "other", 5, "ValueError"),
    ]:
        record = wait_for(partial(ended, app, unpublished.id), "its record to say so")
        assert (record.name, record.queue, record.priority) == ("tests.workload_tasks.then", queue, priority)
        assert record.state is TaskState.FAILURE
        assert str(record.error).startswith(f"{error}: ")
        assert app.AsyncResult(unpublished.id).state == "FAILURE"
    assert lines("then") == []
