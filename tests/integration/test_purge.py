"""Purging a queue by HTTP, on a real Redis: what is dropped, what stays, and what becomes of the tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from celery import chord
from celery.exceptions import TaskRevokedError

from celeriac import CeleriacApp
from celeriac.broker.leases import LEASE_SECONDS, Delivery
from celeriac.broker.publication import Publication
from celeriac.publishing.purge import purge
from celeriac.results import TaskFilter
from celeriac_api.app import create_api
from tests.api import Http
from tests.broker import message
from tests.platform import wait_for

TOKEN = "a-token"


@pytest.fixture
def app(redis_url: str, sqlite_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    return make_app(
        redis_url=redis_url,
        database_url=sqlite_url,
        api_token=TOKEN,
        workloads=("workloads.examples",),
        queues=("other",),
    )


@pytest.fixture
def http(app: CeleriacApp) -> Http:
    return Http(create_api(app), TOKEN)


def publish(app: CeleriacApp, queue: str = "default", **options: Any) -> str:
    return str(app.send_task("examples.add", (1, 2), queue=queue, **options).id)


def claim(app: CeleriacApp) -> Delivery:
    _, tag, _, _ = app.leases.claim(["default"], 1)
    return Delivery("default", int(tag))


def begin(app: CeleriacApp, task_id: str, delivery: Delivery, retries: int = 0) -> None:
    assert app.records.begin(task_id, delivery, retries=retries, worker="w", started=None) == "run"


def again(app: CeleriacApp, task_id: str, retries: int) -> None:
    """Publish another message of a task."""
    raw = message(headers={"id": task_id, "task": "examples.add", "retries": retries})
    app.leases.publish(Publication("default", raw, waiting_id=task_id))


def purged(http: Http, queue: str = "default") -> int:
    answer = http.post(f"/admin/queues/{queue}/purge")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["purged"])


def indexed(app: CeleriacApp, state: str) -> set[str]:
    """What the index of a state holds, whatever the records say."""
    return set(app.redis.zrange(app.keys.index(state, "default"), 0, -1))


def test_what_waits_is_dropped_and_cancelled_and_what_does_not_stays(app: CeleriacApp, http: Http):
    held, dead, elsewhere = publish(app), publish(app), publish(app, "other")
    delivery = claim(app)
    assert app.leases.bury(claim(app), "rejected")
    waiting = [publish(app, priority=priority) for priority in range(10)]
    waiting += [publish(app, countdown=countdown) for countdown in (60, 3600)]
    assert purged(http) == len(waiting)
    assert purged(http) == 0
    queue = http.get("/admin/queues/default").json()
    assert (queue["ready"], queue["delayed"], queue["in_flight"], queue["dead"]) == (0, 0, 1, 1)
    assert not app.redis.exists(*app.keys.ready_lists("default"), app.keys.delayed_messages("default"))
    for task_id in waiting:
        task = http.get(f"/tasks/{task_id}").json()
        assert (task["state"], task["ready"], "finished_at" in task, "eta" in task) == ("REVOKED", True, True, False)
        assert 0 < app.redis.ttl(app.keys.task(task_id)) <= app.settings.results.expires_seconds
        assert 0 < app.redis.ttl(app.keys.result(task_id)) <= app.settings.results.expires_seconds
    states = [app.records.state(task_id) for task_id in (held, dead, elsewhere)]
    assert states == ["PENDING", "FAILURE", "PENDING"]
    assert indexed(app, "REVOKED") == set(waiting)
    assert indexed(app, "PENDING") == {held}
    assert len(app.listing.page(TaskFilter(queue="default")).records) == len(waiting) + 2
    begin(app, held, delivery)


def test_who_waits_for_the_result_is_told(app: CeleriacApp):
    result = app.send_task("examples.add", (1, 2), queue="default")
    subscribed = Event()

    def wait() -> None:
        result.get(timeout=20, interval=0.05, on_interval=subscribed.set)

    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(wait)
        assert subscribed.wait(10)
        purge(app, "default")
        with pytest.raises(TaskRevokedError, match="purged"):
            waits.result(20)
    assert app.AsyncResult(result.id).state == "REVOKED"
    assert app.AsyncResult(result.id).date_done is not None


def test_a_task_that_keeps_no_result_gets_none(app: CeleriacApp, http: Http):
    task_id = publish(app, ignore_result=True)
    assert purged(http) == 1
    assert app.records.state(task_id) == "REVOKED"
    assert not app.redis.exists(app.keys.result(task_id))


def test_a_task_whose_message_came_back_is_cancelled(app: CeleriacApp, http: Http):
    """Its worker was killed: the record says STARTED, and nobody runs it."""
    task_id = publish(app)
    delivery = claim(app)
    begin(app, task_id, delivery)
    assert app.leases.give_up(delivery, "killed") == "returned"
    assert purged(http) == 1
    assert app.records.state(task_id) == "REVOKED"


def test_a_task_that_runs_by_another_message_goes_on(app: CeleriacApp, http: Http):
    task_id = publish(app)
    delivery = claim(app)
    begin(app, task_id, delivery)
    again(app, task_id, retries=0)
    assert purged(http) == 1
    assert app.records.state(task_id) == "STARTED"
    assert app.records.store(task_id, "SUCCESS", delivery=delivery, acknowledges=True) == "stored"


def test_the_next_try_is_cancelled_though_the_one_before_has_not_said_so_yet(app: CeleriacApp, http: Http):
    task_id = publish(app)
    delivery = claim(app)
    begin(app, task_id, delivery)
    again(app, task_id, retries=1)
    assert purged(http) == 1
    assert app.records.state(task_id) == "REVOKED"
    assert app.records.store(task_id, "RETRY", delivery=delivery, next_try=1) == "ended"
    assert app.records.state(task_id) == "REVOKED"


def test_a_try_that_is_over_cancels_nothing(app: CeleriacApp, http: Http):
    task_id = publish(app)
    delivery = claim(app)
    begin(app, task_id, delivery)
    assert app.records.store(task_id, "RETRY", delivery=delivery, next_try=1) == "stored"
    again(app, task_id, retries=0)
    assert purged(http) == 1
    assert app.records.state(task_id) == "RETRY"
    again(app, task_id, retries=1)
    assert purged(http) == 1
    assert app.records.state(task_id) == "REVOKED"


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_task_that_has_ended_stays_as_it_is(app: CeleriacApp, http: Http, state: str):
    task_id = publish(app)
    if state == "REVOKED":
        app.records.revoke(task_id)
    else:
        app.backend.store_result(task_id, ValueError("its own") if state == "FAILURE" else 3, state)
    before = app.records.require(task_id)
    assert purged(http) == 1
    assert app.records.require(task_id) == before


def test_a_chord_fails_with_the_part_that_is_purged(app: CeleriacApp, http: Http):
    parts = [app.signature("examples.add", (1, 2), queue=queue) for queue in ("default", "other")]
    body = chord(parts, app=app)(app.signature("examples.process_data", queue="other"))
    assert purged(http) == 1
    assert body.state == "PENDING", "the other part is still to come"
    assert purged(http, "other") == 1
    assert body.state == "FAILURE"
    assert not app.redis.exists(app.keys.inflight, app.keys.leases("default"), app.keys.leases("other"))


def test_a_chord_fails_though_the_purge_was_killed_before_it_was_told(
    app: CeleriacApp, monkeypatch: pytest.MonkeyPatch
):
    parts = [app.signature("examples.add", (1, 2), queue="default", task_id=task_id) for task_id in ("one", "two")]
    body = chord(parts, app=app)(app.signature("examples.process_data", queue="other"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(app.backend, "finish_again", die)
        with pytest.raises(KeyboardInterrupt):
            purge(app, "default")
    assert app.records.state("one") == app.records.state("two") == "REVOKED"
    ended = wait_for(lambda: app.leases.tend().ended, "the leases to end", LEASE_SECONDS + 5)
    for delivery, end in ended.items():
        assert app.leases.give_up(delivery, "nobody renews it", ended=end) == "returned"
    assert body.state == "PENDING"
    assert purge(app, "default") == 2
    assert body.state == "FAILURE"


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage",
        b"",
        b'{"headers": {"id": "\xff\xfe", "group": "g"}}',
        b'{"body": "", "headers": {"id": "a\\", "group": "g"}, "properties": {}}',
        b'{"body": "", "headers": {"id": "a\\u00e4\\ud800", "group": "g"}, "properties": {}}',
        b'{"body": "", "headers": {"id": 5, "group": "g", "retries": "x"}, "properties": {}}',
        b'{"body": "", "headers": {"id": "one", "group": "g"}, "properties": []}',
    ],
)
def test_what_is_no_message_is_dropped_too(app: CeleriacApp, http: Http, raw: bytes):
    app.raw_redis.lpush("default", raw)
    app.raw_redis.zadd(app.keys.delayed("default"), {"one": 5, "two": 6})
    app.raw_redis.hset(app.keys.delayed_messages("default"), "one", b"default\n" + raw)
    task_id = publish(app)
    assert purged(http) == 4
    assert app.records.state(task_id) == "REVOKED"
    assert not app.redis.exists("default", app.keys.delayed("default"), app.keys.inflight)


def test_a_task_is_found_by_an_id_of_any_letters(app: CeleriacApp, http: Http):
    task_id = "ä/\\ß 日本"
    publish(app, task_id=task_id)
    assert purged(http) == 1
    assert app.records.state(task_id) == "REVOKED"
    assert json.loads(app.redis.get(app.keys.result(task_id)))["task_id"] == task_id


def test_many_go_in_steps_that_leave_redis_time_for_others(app: CeleriacApp, http: Http):
    answer = http.post("/tasks/bulk", json={"tasks": [{"name": "examples.add", "args": [1, 2]}] * 2500})
    task_ids = [task["task_id"] for task in answer.json()["tasks"]]
    publish(app, "other")
    purge(app, "other")  # a script that Redis does not know is sent twice
    app.redis.config_resetstat()
    assert purged(http) == 2500
    assert app.redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 50
    assert {app.records.state(task_id) for task_id in task_ids} == {"REVOKED"}


def test_each_message_is_run_or_purged_but_not_both(app: CeleriacApp):
    task_ids = {publish(app) for _ in range(600)}
    claimed: set[str] = set()

    def work() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and (answer := app.leases.claim(["default"], 7)):
            claimed.update(json.loads(raw)["headers"]["id"] for raw in answer[3::4])

    with ThreadPoolExecutor(2) as pool:
        working = pool.submit(work)
        count = pool.submit(purge, app, "default").result(30)
        working.result(30)
    assert indexed(app, "REVOKED") == task_ids - claimed
    assert count == len(task_ids - claimed)
    assert indexed(app, "PENDING") == claimed


def test_a_queue_that_is_not_there_is_404(http: Http):
    assert http.post("/admin/queues/nothing/purge").status_code == 404
