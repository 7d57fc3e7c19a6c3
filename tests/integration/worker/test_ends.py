"""How tasks end: each is told of once and counted once, and holds nothing afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from celery import chord, group
from celery.result import AsyncResult

from celeriac import CeleriacApp
from celeriac.results import TaskRecord, TaskState
from tests.integration.worker.conftest import send
from tests.integration.worker.test_leases import after_short_tasks, start
from tests.platform import Platform, wait_for
from tests.servers import RedisServer, free_port

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


def test_what_follows_a_task_is_published_once_after_redis_was_away_at_its_end(
    trial: Platform, make_app: Callable[..., CeleriacApp], lines: Lines
):
    with RedisServer() as server:
        trial.environment["REDIS_URL"] = server.url
        app = make_app(redis_url=server.url, workloads=("tests.workload",))
        start(trial, app, "--concurrency", "1")
        chained = (task(app, "succeed_when_released").s() | task(app, "then").s()).delay()
        wait_for(lambda: lines("start", chained.parent.id), "the task to start")
        server.kill()
        release(trial, 1)
        wait_for(lambda: "the lease of a task" in trial.log("worker-trial"), "its end to wait for Redis")
        server.start()
        wait_for(lambda: app.records.get(chained.id), "the successor to be published", 40)
        wait_for(lambda: app.records.require(chained.id).state is TaskState.SUCCESS, "the successor to end")
        wait_for_nothing_held(app.redis)
        assert len(lines("start", chained.parent.id)) == len(lines("then", chained.id)) == len(lines("then")) == 1


def test_of_a_worker_that_has_lost_the_lease_neither_chord_nor_errback_follows(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    loser = start(trial, app, "--concurrency", "2")
    fail, succeed, then = (task(app, name) for name in ("fail_when_released", "succeed_when_released", "then"))
    failing = fail.apply_async(link_error=task(app, "errback").s())
    joined = chord([succeed.s()], app=app)(then.s())
    wait_for(lambda: len(lines("start")) == 2, "both to start")
    send(loser, signal.SIGSTOP)
    try:
        start(trial, app, "--concurrency", "2")
        wait_for(lambda: len(lines("start")) == 4, "both to start again")
    finally:
        send(loser, signal.SIGCONT)
    release(trial, 1)
    wait_for(lambda: trial.log("worker-trial").count("result_refused") == 2, "the first results to be refused")
    wait_for(lambda: trial.log("worker-trial").count("acknowledgement_refused") == 2, "the loser to be through")
    assert app.records.require(failing.id).state is TaskState.STARTED
    assert app.records.get(joined.id) is None, "the body is not published yet"
    assert lines("errback") == []
    release(trial, 2)
    assert joined.get(timeout=20) == "then"
    wait_for(lambda: lines("errback", failing.id), "the errback")
    wait_for_nothing_held(client)
    assert len(lines("errback")) == len(lines("then")) == 1


def test_a_worker_that_is_shut_down_by_remote_control_is_not_replaced(
    trial: Platform, app: CeleriacApp, client: redis.Redis
):
    process = trial.start("worker", "trial")
    wait_for(app.registry.workers, "the worker to count")
    app.control.shutdown()
    assert process.wait(30) == 0, "whatever ends with another code is replaced"
    assert "worker_replaced" not in trial.log("worker-trial")
    assert app.registry.workers() == []


def test_a_task_that_expires_is_revoked_also_where_its_result_is_ignored(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    expiring: AsyncResult = task(app, "add").apply_async((1, 1), expires=0.1, ignore_result=True)
    assert app.records.require(expiring.id).state is TaskState.PENDING
    start(trial, app)
    wait_for(lambda: app.records.require(expiring.id).state is TaskState.REVOKED, "the task to be revoked")
    assert not client.exists(f"celery-task-meta-{expiring.id}")
    assert lines("start") == []
    wait_for_nothing_held(client)


def test_a_worker_whose_pool_grows_claims_for_the_new_slot(trial: Platform, app: CeleriacApp, lines: Lines):
    start(trial, app, "--concurrency", "1")
    held = [task(app, "succeed_when_released").delay() for _ in range(3)]
    wait_for(lambda: len(lines("start")) == 1, "the one slot to be taken")
    assert app.control.pool_grow(1, reply=True, timeout=5)
    wait_for(lambda: len(lines("start")) == 2, "the new slot to be taken")
    assert app.redis.llen("trial") == 1, "for the third there is none"
    release(trial, 1)
    assert [one.get(timeout=20) for one in held] == ["released"] * 3
