"""Cancelling by a filter: which tasks it reaches, what it answers, and who may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac import CeleriacApp, InvalidInput, Unavailable
from celeriac.access import Scope, Token, token_hash
from celeriac.broker.line import Line
from celeriac.database.migrate import Migrations
from celeriac.publishing import Cancelled, TaskRequest, cancel_all, submit_all
from celeriac.results import TaskFilter, TaskState
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http
from tests.platform import TOKEN, Platform

MakeApp = Callable[..., CeleriacApp]


@pytest.fixture
def app(make_app: MakeApp, redis_url: str) -> CeleriacApp:
    return make_app(redis_url=redis_url, workloads=("workloads.examples",), queues=("other",))


@pytest.fixture
def told(app: CeleriacApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that workers are told to end."""
    ids: list[str] = []
    monkeypatch.setattr(app.control, "end", ids.extend)
    return ids


def add(app: CeleriacApp, task_id: str, state: str = "PENDING", *, queue: str = "default", name: str = "examples.add"):
    app.records.add(task_id, name=name, queue=queue, priority=5)
    if state != "PENDING":
        app.records.store(task_id, state)


def by_filter(app: CeleriacApp, chosen: TaskFilter | None = None, cursor: str | None = None) -> Cancelled:
    return asyncio.run(cancel_all(app, chosen or TaskFilter(), cursor=cursor))


def states(app: CeleriacApp, *task_ids: str) -> list[str]:
    return [str(app.records.state(task_id)) for task_id in task_ids]


def test_all_that_have_not_ended_are_cancelled_and_workers_told_of_those_that_may_run(
    app: CeleriacApp, told: list[str]
):
    for state in TaskState:
        add(app, state.lower(), state)
    assert by_filter(app) == Cancelled(4, None)
    ended = {state for state in TaskState if state.ready}
    assert states(app, *(state.lower() for state in TaskState)) == [
        state if state in ended else "REVOKED" for state in TaskState
    ]
    assert sorted(told) == ["progress", "retry", "started"]
    assert by_filter(app) == Cancelled(0, None), "what is cancelled is not found again"


@pytest.mark.parametrize(
    ("chosen", "reached"),
    [
        (TaskFilter(queue="other"), {"b"}),
        (TaskFilter(name="examples.send_email"), {"c"}),
        (TaskFilter(states=[TaskState.STARTED]), {"d"}),
        (TaskFilter(states=[TaskState.PENDING], queue="default"), {"a", "c"}),
        (TaskFilter(queue="nowhere"), set()),
    ],
)
def test_a_filter_reaches_what_a_list_by_it_shows(
    app: CeleriacApp, told: list[str], chosen: TaskFilter, reached: set[str]
):
    add(app, "a")
    add(app, "b", queue="other")
    add(app, "c", name="examples.send_email")
    add(app, "d", "STARTED")
    assert by_filter(app, chosen).count == len(reached)
    assert {task_id for task_id in "abcd" if states(app, task_id) == ["REVOKED"]} == reached


def test_times_bound_what_is_cancelled(app: CeleriacApp):
    for task_id in ("a", "b", "c"):
        add(app, task_id)
    submitted = datetime.fromisoformat(app.records.require("b").submitted_at)
    for task_id, seconds in (("a", -60), ("c", 60)):
        at = submitted + timedelta(seconds=seconds)
        app.redis.zadd(app.keys.index("PENDING", "default"), {task_id: at.timestamp() * 1000})
    assert by_filter(app, TaskFilter(since=submitted, until=submitted + timedelta(seconds=1))).count == 1
    assert states(app, "a", "b", "c") == ["PENDING", "REVOKED", "PENDING"]


def test_whoever_waits_for_a_cancelled_task_is_told_and_no_worker_starts_it(app: CeleriacApp):
    requests = [TaskRequest("examples.add", [1, 2]), TaskRequest("examples.add", [3, 4], countdown=60)]
    ready, delayed = asyncio.run(submit_all(app, requests))
    assert by_filter(app).count == 2
    for submission in (ready, delayed):
        result = app.AsyncResult(submission.task_id)  # type: ignore[union-attr]
        assert (result.state, str(result.result)) == ("REVOKED", "cancelled")
    assert app.redis.zcard(app.keys.delayed("default")) == app.redis.hlen(app.keys.delayed_messages("default")) == 0
    _, _, revoked, _ = app.leases.claim(["default"], 10)
    assert revoked == 1
    assert 3500 < app.redis.ttl(app.keys.task(delayed.task_id)) <= 3600  # type: ignore[union-attr]


def test_what_begins_to_run_is_left_alone_where_only_what_waits_is_asked_for(
    app: CeleriacApp, told: list[str], monkeypatch: pytest.MonkeyPatch
):
    for number in range(250):
        add(app, f"{number:03}")
    page_by, began = app.listing.page_by, [f"{number:03}" for number in range(0, 250, 5)]

    async def page_then_begin(*args: Any, **options: Any) -> Any:
        page = await page_by(*args, **options)
        for task_id in began:
            app.records.store(task_id, "STARTED")
        return page

    monkeypatch.setattr(app.listing, "page_by", page_then_begin)
    assert by_filter(app, TaskFilter(states=[TaskState.PENDING])).count == 200
    assert set(states(app, *began)) == {"STARTED"}
    assert told == []
    monkeypatch.undo()
    monkeypatch.setattr(app.control, "end", told.extend)
    assert by_filter(app, TaskFilter(queue="default")).count == 50
    assert sorted(told) == began


def test_a_request_looks_at_a_thousand_and_says_where_to_go_on(app: CeleriacApp, redis_url: str):
    requests = [TaskRequest("examples.add", [number, 0], countdown=60 * (number % 2)) for number in range(2300)]
    asyncio.run(submit_all(app, requests))
    add(app, "elsewhere", queue="other")
    app.redis.config_resetstat()
    counts, cursor = [], None
    while True:
        cancelled = by_filter(app, TaskFilter(queue="default"), cursor)
        counts.append(cancelled.count)
        asyncio.run(submit_all(app, [TaskRequest("examples.add", [0, 0])]))  # comes too late for this
        if (cursor := cancelled.cursor) is None:
            break
    assert counts == [1000, 1000, 300]
    assert app.redis.zcard(app.keys.index("REVOKED", "default")) == 2300
    assert app.redis.zcard(app.keys.index("PENDING", "default")) == 3
    assert states(app, "elsewhere") == ["PENDING"]
    with redis.Redis.from_url(redis_url) as client:
        assert not {"cmdstat_keys", "cmdstat_scan"} & client.info("commandstats").keys()


@pytest.mark.parametrize("state", [state for state in TaskState if state.ready])
def test_states_of_tasks_that_have_ended_are_refused(app: CeleriacApp, state: TaskState):
    with pytest.raises(InvalidInput, match=f"state: such tasks have ended; .*PENDING, RETRY.*{state}"):
        by_filter(app, TaskFilter(states=[state]))


def test_a_redis_that_goes_away_in_the_middle_is_told_with_what_may_still_run(
    app: CeleriacApp, monkeypatch: pytest.MonkeyPatch
):
    for number in range(300):
        add(app, f"{number:03}", "STARTED" if number % 100 == 0 else "PENDING")
    call_all, away = Line.call_all, RedisConnectionError("away")

    async def lose_the_second(line: Line, script: Any, calls: Sequence[Any], **options: Any) -> list[Any]:
        answers = await call_all(line, script, calls, **options)
        return answers if app.redis.zcard(app.keys.index("REVOKED", "default")) <= 100 else [away] * len(calls)

    def fail(_task_ids: Sequence[str]) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Line, "call_all", lose_the_second)
    monkeypatch.setattr(app.control, "end", fail)
    with pytest.raises(Unavailable, match=r": 100 tasks are cancelled, .* that may still run: 200, 100$"):
        by_filter(app)
    monkeypatch.undo()
    assert by_filter(app).count == 100
    assert app.redis.zcard(app.keys.index("REVOKED", "default")) == 300


# Over HTTP and from the command line


@pytest.fixture
def api_app(make_app: MakeApp, redis_url: str, sqlite_url: str) -> CeleriacApp:
    Migrations(sqlite_url, []).upgrade()
    return make_app(redis_url=redis_url, database_url=sqlite_url, workloads=("workloads.examples",))


def client(app: CeleriacApp, *scopes: Scope) -> Http:
    token = Token("-".join(scopes), frozenset(scopes))
    return Http(create_api(app, Authenticator({token_hash("secret"): token}, dict)), "secret")


def test_it_needs_scope_admin_and_is_audited(api_app: CeleriacApp):
    add(api_app, "one")
    submitter, admin = client(api_app, Scope.READ, Scope.SUBMIT), client(api_app, Scope.ADMIN)
    refused = submitter.post("/tasks/cancel", json={"all": True})
    assert (refused.status_code, states(api_app, "one")) == (403, ["PENDING"])
    answer = admin.post("/tasks/cancel", json={"queue": "default", "state": "PENDING"})
    assert (answer.status_code, answer.json()) == (200, {"cancelled": 1, "cursor": None})
    (act,) = admin.get("/admin/audit").json()["items"]
    assert (act["who"], act["what"], act["status"]) == ("admin", "POST /tasks/cancel", 200)
    assert act["parameters"] == {"body": {"queue": "default", "state": "PENDING"}}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, '"all": true'),
        ({"all": False}, '"all": true'),
        ({"all": True, "queue": "default"}, "not both"),
        ({"all": "yes"}, "all: "),
        ({"state": "SUCCESS"}, "state: such tasks have ended"),
        ({"state": "DONE"}, "state: "),
        ({"queue": ""}, "queue: "),
        ({"since": "2026-01-31T12:00:00"}, "since: "),
        ({"all": True, "cursor": "x"}, "cursor: "),
        ({"everything": True}, "everything: "),
    ],
)
def test_a_filter_that_is_none_is_refused_and_nothing_cancelled(api_app: CeleriacApp, body: object, named: str):
    add(api_app, "one")
    answer = client(api_app, Scope.ADMIN).post("/tasks/cancel", json=body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert states(api_app, "one") == ["PENDING"]


def test_the_command_line_cancels_one_or_all_that_match(platform: Platform):
    platform.start_api()
    ids = [platform.submit("examples.add", 1, number) for number in range(3)]
    mail = platform.submit("examples.send_email", "a@b")

    def cancelled(*options: str) -> int:
        return int(json.loads(platform.run("tasks", "cancel", *options, "--json").stdout)["cancelled"])

    assert json.loads(platform.run("tasks", "cancel", ids[0], "--json").stdout)["state"] == "REVOKED"
    assert cancelled("--queue=default", "--state=PENDING", "--name=examples.add") == 2
    assert cancelled("--queue=nowhere") == 0
    assert platform.task(mail)["state"] == "PENDING"
    assert platform.run("tasks", "cancel", "--all").stdout == "1 cancelled\n"
    for wrong in ([], [mail, "--all"], [mail, "--queue=default"], ["--all", "--queue=default"]):
        assert platform.run("tasks", "cancel", *wrong).returncode == 2
    refused = platform.run("tasks", "cancel", "--state=SUCCESS")
    assert (refused.returncode, "such tasks have ended" in refused.stderr) == (1, True)
    assert TOKEN not in refused.stderr
