"""`Idempotency-Key` on every submit, on a real Redis and database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celeriac import CeleriacApp
from celeriac.access import Scope, Token, token_hash
from celeriac.database.migrate import Migrations
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http
from workloads.data_sync.contract import FileStatus
from workloads.data_sync.models import DataFile

KEY = {"Idempotency-Key": "order 7"}


@pytest.fixture
def app(redis_url: str, sqlite_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    app = make_app(redis_url=redis_url, database_url=sqlite_url, file_store="db:")
    Migrations(sqlite_url, app.workloads).upgrade()
    return app


@pytest.fixture
def clients(app: CeleriacApp) -> list[Http]:
    """Two who have a token each."""
    tokens = {token_hash(name): Token(name, frozenset(Scope)) for name in ("shop", "warehouse")}
    api = create_api(app, Authenticator(tokens, dict))
    return [Http(api, name) for name in ("shop", "warehouse")]


def waiting(app: CeleriacApp) -> int:
    return sum(app.redis.llen(queue.name) for queue in app.queues)


def ids(answer: Any) -> list[str | None]:
    assert answer.status_code == 202, answer.text
    return [task.get("task_id") for task in answer.json()["tasks"]]


def test_a_bulk_submit_that_is_repeated_answers_the_tasks_of_the_first(app: CeleriacApp, clients: list[Http]):
    body = {"tasks": [{"name": "examples.add", "args": [number, 1]} for number in range(150)]}
    body["tasks"][3]["args"] = [1]
    first, second = (clients[0].post("/tasks/bulk", json=body, headers=KEY) for _ in range(2))
    assert ids(first) == ids(second)
    assert ids(first)[3] is None
    assert waiting(app) == 149


def test_what_differs_in_a_repeated_bulk_submit_is_refused_and_nothing_else(app: CeleriacApp, clients: list[Http]):
    tasks = [{"name": "examples.add", "args": [number, 1]} for number in range(3)]
    first = clients[0].post("/tasks/bulk", json={"tasks": tasks}, headers=KEY)
    tasks[1]["args"] = [4, 5]
    second = clients[0].post("/tasks/bulk", json={"tasks": tasks}, headers=KEY)
    assert ids(second) == [ids(first)[0], None, ids(first)[2]]
    assert second.json()["tasks"][1]["error"]["type"] == "urn:celeriac:error:conflict"
    assert waiting(app) == 3


def test_the_same_key_of_two_tokens_is_two_keys(app: CeleriacApp, clients: list[Http]):
    body = {"name": "examples.add", "args": [1, 2]}
    answers = [client.post("/tasks", json=body, headers=KEY).json()["task_id"] for client in clients * 2]
    assert answers[:2] == answers[2:]
    assert answers[0] != answers[1]
    assert waiting(app) == 2


def test_a_sync_that_is_repeated_after_its_end_leaves_the_file_synced(app: CeleriacApp, clients: list[Http]):
    http = clients[0]
    file_id = http.post(
        "/api/data-sync/files", files={"file": ("a.csv", b"a,b\n1,2\n")}, data={"platform": "generic"}
    ).json()["file_id"]
    first = http.post("/api/data-sync/sync-single-file", json={"file_id": file_id}, headers=KEY)
    with app.database.write() as session:
        session.get_one(DataFile, file_id).status = FileStatus.SYNCED
    second = http.post("/api/data-sync/sync-single-file", json={"file_id": file_id}, headers=KEY)
    assert first.json() == second.json()
    assert http.get(f"/api/data-sync/files/{file_id}").json()["status"] == "synced"
    assert waiting(app) == 1


def test_a_batch_that_is_repeated_is_the_same_though_fewer_files_wait(app: CeleriacApp, clients: list[Http]):
    http = clients[0]
    form = {"platform": "generic"}
    file_id = http.post("/api/data-sync/files", files={"file": ("a.csv", b"a,b\n1,2\n")}, data=form).json()["file_id"]
    first = http.post("/api/data-sync/sync-batch", json=form, headers=KEY)
    with app.database.write() as session:
        session.get_one(DataFile, file_id).status = FileStatus.SYNCED
    second = http.post("/api/data-sync/sync-batch", json=form, headers=KEY)
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    other = http.post("/api/data-sync/sync-batch", json={**form, "limit": 7}, headers=KEY)
    assert other.status_code == 409
