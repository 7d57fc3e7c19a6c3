"""Rate limits of submits as callers of the API and of the library see them, and idempotency keys of tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from celeriac import CeleriacApp
from celeriac.access import Scope, Token, token_hash
from celeriac.database.migrate import Migrations
from celeriac.errors import CeleriacError, TooMany
from celeriac.publishing import Submission, TaskRequest, submit, submit_all
from celeriac.rate import Rate
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http

MakeApp = Callable[..., CeleriacApp]

ADD = {"name": "examples.add", "args": [1, 2]}
MAIL = {"name": "examples.send_email", "args": ["a@b"]}


@pytest.fixture
def app(make_app: MakeApp, redis_url: str, sqlite_url: str) -> CeleriacApp:
    return make_app(
        redis_url=redis_url, database_url=sqlite_url, api_token="secret", rate_limits={"examples.add": "2/h"}
    )


@pytest.fixture
def api(app: CeleriacApp) -> FastAPI:
    """Knows three tokens, by their names, of which `slow` has a rate of its own."""
    scopes = frozenset({Scope.READ, Scope.SUBMIT})
    tokens = [Token("shop", scopes), Token("crawler", scopes), Token("slow", scopes, rate=Rate.parse("3/h"))]
    return create_api(app, Authenticator({}, lambda: {token_hash(token.name): token for token in tokens}))


def statuses(api: FastAPI, token: str, *bodies: object) -> list[int]:
    return [Http(api, token).post("/tasks", json=body).status_code for body in bodies]


def test_a_task_over_its_limit_is_refused_by_name_with_the_time_to_wait(app: CeleriacApp, api: FastAPI):
    assert statuses(api, "shop", ADD, MAIL) == [202, 202]
    assert statuses(api, "crawler", ADD) == [202]
    keys = app.redis.dbsize()
    refused = Http(api, "crawler").post("/tasks", json=ADD)
    assert refused.status_code == 429
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert 1790 <= int(refused.headers["Retry-After"]) <= 1800
    problem = refused.json()
    assert problem["retry_after"] == int(refused.headers["Retry-After"])
    assert problem["detail"].startswith("task examples.add is submitted at most 2/h; try again in 1")
    assert app.redis.dbsize() == keys
    assert app.redis.llen("default") == 3
    assert statuses(api, "crawler", MAIL) == [202], "other tasks have no limit"


def test_a_token_over_its_limit_is_refused_and_no_other_token_is(app: CeleriacApp, api: FastAPI):
    assert statuses(api, "slow", MAIL, MAIL, MAIL, MAIL) == [202, 202, 202, 429]
    refused = Http(api, "slow").post("/tasks", json=MAIL)
    assert refused.json()["detail"].startswith("token slow submits at most 3/h; try again in 1")
    assert 1190 <= int(refused.headers["Retry-After"]) <= 1200
    assert statuses(api, "shop", *[MAIL] * 5) == [202] * 5


def test_what_one_limit_refuses_takes_nothing_from_the_other(api: FastAPI):
    assert statuses(api, "slow", ADD, ADD, ADD, ADD, ADD, MAIL, MAIL) == [202, 202, 429, 429, 429, 202, 429]


def test_what_cannot_be_accepted_takes_nothing(app: CeleriacApp, api: FastAPI):
    wrong = {"name": "examples.add", "args": [1]}
    assert statuses(api, "slow", wrong, wrong, wrong, wrong) == [422] * 4
    app.queue_limits = {"default": 1}
    assert statuses(api, "slow", ADD, MAIL, MAIL, MAIL) == [202, 429, 429, 429]
    assert Http(api, "slow").post("/tasks", json=MAIL).json()["detail"].startswith("queue is full")
    app.queue_limits = {}
    assert statuses(api, "slow", MAIL, MAIL, MAIL) == [202, 202, 429]


def test_each_task_of_a_bulk_submit_counts_and_those_over_the_limit_say_when(app: CeleriacApp, api: FastAPI):
    answer = Http(api, "slow").post("/tasks/bulk", json={"tasks": [ADD, ADD, ADD, MAIL, MAIL, {"name": "none"}]})
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 3
    items = answer.json()["tasks"]
    assert [item.get("error", {}).get("status") for item in items] == [None, None, 429, None, 429, 422]
    assert "task examples.add" in items[2]["error"]["detail"]
    assert "token slow" in items[4]["error"]["detail"]
    assert 1790 <= items[2]["error"]["retry_after"] <= 1800
    assert "retry_after" not in items[5]["error"]
    assert app.redis.llen("default") == 3


def test_other_routes_that_submit_for_a_token_count_too(app: CeleriacApp, api: FastAPI):
    Migrations(app.settings.database_url.get_secret_value(), app.workloads).upgrade()

    def sync() -> int:
        return Http(api, "slow").post("/api/data-sync/sync-batch", json={"platform": "shopee"}).status_code

    assert [sync(), *statuses(api, "slow", MAIL), sync(), sync()] == [202, 202, 202, 429]


def test_a_submit_that_is_repeated_under_its_key_is_answered_though_the_limit_is_reached(api: FastAPI):
    def post(key: str) -> tuple[int, str | None]:
        answer = Http(api, "shop").post("/tasks", json=ADD, headers={"Idempotency-Key": key})
        return answer.status_code, answer.json().get("task_id")

    one, two = post("one"), post("two")
    assert (one[0], two[0], post("three")[0]) == (202, 202, 429)
    assert [post("one"), post("two")] == [one, two]
    assert post("three")[0] == 429, "a key whose submit was refused is free"


def test_the_same_key_of_another_token_is_another_key(app: CeleriacApp, api: FastAPI):
    def post(token: str) -> str:
        answer = Http(api, token).post("/tasks", json=MAIL, headers={"Idempotency-Key": "order 7"})
        assert answer.status_code == 202
        return str(answer.json()["task_id"])

    shop, crawler = post("shop"), post("crawler")
    assert shop != crawler
    assert (post("shop"), post("crawler")) == (shop, crawler)
    assert app.redis.llen("default") == 2
    submission = asyncio.run(submit(app, TaskRequest("examples.send_email", ["a@b"]), idempotency_key="order 7"))
    assert submission.task_id not in {shop, crawler}, "nor is it that of nobody"


def test_of_many_at_once_as_many_are_accepted_as_the_limit_says(app: CeleriacApp):
    app.rate_limits = {"examples.add": Rate.parse("50/h")}
    token = Token("shop", frozenset(), rate=Rate.parse("70/h"))
    requests = [TaskRequest("examples.add", [number, 1]) for number in range(200)]

    async def run() -> list[Submission | BaseException]:
        return await asyncio.gather(*(submit(app, each, by=token) for each in requests), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert sum(isinstance(each, Submission) for each in outcomes) == app.redis.llen("default") == 50
    assert sum(isinstance(each, TooMany) for each in outcomes) == 150

    async def mails() -> list[Submission | CeleriacError]:
        return await submit_all(app, [TaskRequest("examples.send_email", ["a@b"])] * 30, by=token)

    assert [isinstance(each, Submission) for each in asyncio.run(mails())] == [True] * 20 + [False] * 10


def test_ordinary_code_is_neither_counted_nor_limited(app: CeleriacApp):
    for _ in range(5):
        app.tasks["examples.add"].delay(1, 2)
    assert app.redis.llen("default") == 5
    assert not app.redis.keys("celeriac:rate:*")


def test_tokens_have_the_rate_they_were_made_with_or_that_of_the_settings(
    make_app: MakeApp, redis_url: str, sqlite_url: str
):
    Migrations(sqlite_url, []).upgrade()
    app = make_app(redis_url=redis_url, database_url=sqlite_url, api_token="secret", api={"token_rate_limit": "2/h"})
    own = app.tokens.create("own", [Scope.SUBMIT], by="cli:test", client="here", rate=Rate.parse("1/h"))
    usual = app.tokens.create("usual", [Scope.SUBMIT], by="cli:test", client="here")
    api = create_api(app)
    assert statuses(api, own, MAIL, MAIL) == [202, 429]
    assert statuses(api, usual, MAIL, MAIL, MAIL) == [202, 202, 429]
    assert statuses(api, "secret", *[MAIL] * 5) == [202] * 5, "the bootstrap token is for emergencies"
    (act, _) = app.audit.page(limit=2)[::-1]
    assert act.parameters["rate"] == "1/h"


def test_the_command_line_makes_and_lists_rates(platform):
    Migrations(platform.environment["DATABASE_URL"], []).upgrade()
    made = platform.run("tokens", "create", "shop", "--scope=submit", "--rate=100/s", "--json")
    assert json.loads(made.stdout)["rate"] == "100/s"
    platform.run("tokens", "create", "ops", "--scope=admin")
    listed = json.loads(platform.run("tokens", "list", "--json").stdout)
    assert {token["name"]: token["rate"] for token in listed} == {"shop": "100/s", "ops": None}
    assert "100/s" in platform.run("tokens", "list").stdout
    wrong = platform.run("tokens", "create", "other", "--scope=submit", "--rate=fast")
    assert wrong.returncode == 2
    assert "a rate is a number" in wrong.stderr
