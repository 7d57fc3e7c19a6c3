"""What holds while a message is leased, by real workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
import redis

from celeriac import CeleriacApp
from tests.integration.worker.conftest import send
from tests.platform import Platform, wait_for
from tests.servers import RedisServer

Lines = Callable[..., list[list[str]]]


def start(trial: Platform, app: CeleriacApp, *options: str, **variables: str) -> int:
    """Start a worker and wait until the registry knows it."""
    before = {worker.name for worker in app.registry.workers()}
    process = trial.start("worker", "trial", *options, **variables)
    wait_for(lambda: {worker.name for worker in app.registry.workers()} - before, "the worker to count")
    return process.pid


def after_short_tasks(app: CeleriacApp) -> None:
    """Run so many short tasks that the worker holds messages for which it has no slot yet."""
    for task in [app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial") for _ in range(30)]:
        task.get(timeout=20)


@pytest.mark.parametrize("pool", ["threads", "solo"])  # with prefork it holds another process' lock than Celery's
def test_a_task_that_holds_the_interpreter_for_three_leases_runs_once(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis, pool: str
):
    start(trial, app, "--pool", pool, "--concurrency", "1")
    start(trial, app, "--concurrency", "1")
    task = app.send_task("tests.workload_tasks.hold_the_lock", args=[16], queue="trial")
    wait_for(lambda: lines("start", task.id), "the task to start")
    # Of two workers either may have got it: the second holds the lock, too, and both are to be seen.
    other = app.send_task("tests.workload_tasks.hold_the_lock", args=[16], queue="trial")
    assert task.get(timeout=60) == other.get(timeout=60) == 16
    assert len(lines("start", task.id)) == len(lines("start", other.id)) == 1
    wait_for(lambda: not client.exists("celeriac:inflight"), "all acknowledgements")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_every_pool_runs_retries_chains_and_chords(trial: Platform, app: CeleriacApp, lines: Lines, pool: str):
    start(trial, app, "--pool", pool, "--concurrency", "2")
    add, then = app.tasks["tests.workload_tasks.add"], app.tasks["tests.workload_tasks.then"]
    retried = app.tasks["tests.workload_tasks.try_twice"].delay(0.2)
    from celery import chord

    chained = (add.s(1, 2) | add.s(3)).delay()
    joined = chord([add.s(1, 1), add.s(2, 2)])(then.s())
    assert retried.get(timeout=30) == "done"
    assert chained.get(timeout=30) == 6
    assert joined.get(timeout=30) == "then"
    tries = [float(line[2]) for line in lines("try", retried.id)]
    assert len(tries) == 2
    assert 0.2 <= tries[1] - tries[0] < 2


def test_a_worker_that_slept_for_longer_than_its_lease_is_refused_when_it_wakes(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    paused = start(trial, app, "--concurrency", "1")
    tasks = [app.send_task("tests.workload_tasks.sleep", args=[2], queue="trial") for _ in range(3)]
    wait_for(lambda: lines("start"), "the first to start")
    send(paused, signal.SIGSTOP)
    try:
        start(trial, app, "--concurrency", "1")
        assert [task.get(timeout=60) for task in tasks] == [2, 2, 2]
    finally:
        send(paused, signal.SIGCONT)
    first = lines("start")[0][1]
    starts, ends = (
        lines("start", first),
        wait_for(lambda: len(lines("end", first)) == 2 and lines("end", first), "both ends"),
    )
    assert [line[3] for line in ends] == ["True", "False"], "the one that woke up knows that it has lost its lease"
    assert int(starts[1][3]) > int(starts[0][3]), "tokens grow"
    # The two are one step, where nothing else follows the task.
    wait_for(lambda: "result_refused" in trial.log("worker-trial"), "result and acknowledgement to be refused")
    others = {task.id for task in tasks} - {first}
    assert all(len(lines("start", task_id)) == 1 for task_id in others), "what only waited in it ran once"
    assert app.send_task("tests.workload_tasks.add", args=[1, 1], queue="trial").get(timeout=20) == 2
    wait_for(lambda: not client.exists("celeriac:inflight"), "nothing to be left")


def test_what_follows_a_task_is_published_once_though_its_worker_slept(trial: Platform, app: CeleriacApp, lines: Lines):
    paused = start(trial, app, "--concurrency", "1")
    sleep, then = app.tasks["tests.workload_tasks.sleep"], app.tasks["tests.workload_tasks.then"]
    chain = (sleep.s(1) | then.s()).delay()
    wait_for(lambda: lines("start", chain.parent.id), "the task to start")
    send(paused, signal.SIGSTOP)
    try:
        start(trial, app, "--concurrency", "1")
        assert chain.get(timeout=60) == "then"
    finally:
        send(paused, signal.SIGCONT)
    wait_for(lambda: "successors_not_published" in trial.log("worker-trial"), "the first to find that it was late")
    assert len(lines("then")) == 1


def test_a_killed_worker_process_is_replaced_and_its_messages_return_at_once(
    trial: Platform, app: CeleriacApp, lines: Lines
):
    supervisor = start(trial, app, "--concurrency", "1")
    born = time.monotonic()
    task = app.send_task("tests.workload_tasks.sleep", args=[25], queue="trial")
    wait_for(lambda: lines("start", task.id), "the task to start")
    wait_for(lambda: time.monotonic() - born > 11, "the worker to have lived long enough to be replaced")
    (worker,) = psutil.Process(supervisor).children()
    killed = time.time()
    worker.kill()
    second = wait_for(lambda: len(lines("start", task.id)) == 2 and lines("start", task.id)[1], "it to start again")
    assert float(second[2]) - killed < 6, "the lease of 5 s was not waited for, only the start of the new process"
    assert psutil.Process(supervisor).is_running()
    assert app.records.require(task.id).state == "STARTED"


def test_a_worker_that_is_told_to_stop_gives_back_at_once_what_it_has_not_begun(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    stopping = start(trial, app, "--concurrency", "1")
    after_short_tasks(app)
    tasks = [app.send_task("tests.workload_tasks.sleep", args=[4], queue="trial") for _ in range(4)]
    ids = {task.id for task in tasks}
    wait_for(lambda: client.zcard("celeriac:leases:trial") > 1, "more than one to be leased")
    os.kill(stopping, signal.SIGTERM)
    wait_for(lambda: client.zcard("celeriac:leases:trial") == 1, "the others to be returned", 1)
    assert "x-delivery-count" not in str(client.lrange("trial", 0, -1))
    start(trial, app, "--concurrency", "4")
    assert [task.get(timeout=30) for task in tasks] == [4, 4, 4, 4], "what it ran has ended, too"
    assert len([line for line in lines("start") if line[1] in ids]) == 4


def test_what_waits_behind_a_long_task_goes_to_a_worker_that_has_a_slot(
    trial: Platform, app: CeleriacApp, lines: Lines
):
    start(trial, app, "--concurrency", "1")
    after_short_tasks(app)
    published = time.time()
    tasks = [app.send_task("tests.workload_tasks.sleep", args=[8], queue="trial") for _ in range(3)]
    ids = {task.id for task in tasks}
    trial.start("worker", "trial", "--concurrency", "2")
    wait_for(lambda: len([line for line in lines("start") if line[1] in ids]) == 3, "all three to run at a time", 8)
    assert max(float(line[2]) for line in lines("start")) - published < 8


def test_a_worker_returns_what_it_cannot_finish_before_its_grace_period_ends(
    trial: Platform, app: CeleriacApp, lines: Lines, client: redis.Redis
):
    stopping = start(trial, app, "--concurrency", "1", CELERIAC_WORKER__GRACE_PERIOD_SECONDS="6")
    task = app.send_task("tests.workload_tasks.sleep", args=[30], queue="trial")
    wait_for(lambda: lines("start", task.id), "the task to start")
    told = time.monotonic()
    os.kill(stopping, signal.SIGTERM)
    raw = wait_for(lambda: client.lindex("trial", -1), "the message to be back")
    assert 2.5 < time.monotonic() - told < 5, "half of so short a period"
    assert "x-delivery-count" not in raw, "a worker that was told to stop is not its task's fault"
    assert not client.exists("celeriac:inflight")


def test_a_result_and_an_acknowledgement_that_redis_missed_are_sent_when_it_is_back(
    trial: Platform, make_app: Callable[..., CeleriacApp], lines: Lines
):
    with RedisServer() as server:
        trial.environment["REDIS_URL"] = server.url
        app = make_app(redis_url=server.url, workloads=("tests.workload",))
        start(trial, app, "--concurrency", "1")
        task = app.send_task("tests.workload_tasks.nap", args=[2], queue="trial")
        wait_for(lambda: lines("start", task.id), "the task to start")
        server.kill()
        wait_for(lambda: time.time() - float(lines("start", task.id)[0][2]) > 7, "the task to end without Redis")
        server.start()
        wait_for(lambda: app.records.require(task.id).result == 2, "its result", 40)
        another = app.send_task("tests.workload_tasks.add", args=[2, 2], queue="trial")
        wait_for(lambda: app.records.require(another.id).result == 4, "the worker to go on", 20)
        wait_for(lambda: not app.redis.exists("celeriac:inflight"), "the acknowledgement")
        assert len(lines("start", task.id)) == 1


def test_a_worker_claims_for_processes_that_are_up_and_counts_when_all_are(
    trial: Platform, app: CeleriacApp, client: redis.Redis, lines: Lines
):
    released = trial.folder / "released"
    trial.environment["TRIAL_SLOW_START"] = str(released)
    trial.start_api()
    nap = app.tasks["tests.workload_tasks.nap"]
    for _ in range(2):
        nap.apply_async((1,), queue="trial")
    trial.start("worker", "--queue=trial", "--concurrency=2")
    wait_for(lambda: lines("starting") and lines("start"), "one process to start and the other to work")
    assert (client.llen("trial"), client.zcard("celeriac:leases:trial")) == (1, 1)
    assert trial.workers() == 0
    released.touch()
    wait_for(lambda: len(lines("start")) == 2, "the other to work, too")
    wait_for(lambda: trial.workers() == 1, "the worker to count")
