"""Queues by HTTP, on a real Redis: shown, paused and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from celeriac import CeleriacApp
from celeriac.broker import Keys
from celeriac.broker.leases import Leases
from celeriac.broker.pauses import Pauses
from celeriac.database.migrate import Migrations
from celeriac_api.app import create_api
from tests.api import Http
from tests.servers import RedisServer

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


def claim(app: CeleriacApp, *queues: str) -> list[Any]:
    return app.leases.claim(queues or ["default"], 100)


def test_one_queue_is_shown_as_in_the_list(app: CeleriacApp, http: Http):
    publish(app, "other", countdown=3600)
    shown = http.get("/admin/queues/other").json()
    assert (shown["queue"], shown["delayed"], shown["paused"]) == ("other", 1, False)
    assert shown in http.get("/admin/queues").json()["items"]


def test_a_paused_queue_takes_submits_and_gives_nothing_until_it_is_resumed(app: CeleriacApp, http: Http):
    publish(app)
    for _ in range(2):
        answer = http.post("/admin/queues/default/pause")
        assert (answer.status_code, answer.json()["paused"], answer.json()["ready"]) == (200, True, 1)
    submitted = http.post("/tasks", json={"name": "examples.add", "args": [1, 2]})
    assert submitted.status_code == 202
    assert http.get(f"/tasks/{submitted.json()['task_id']}").json()["state"] == "PENDING"
    assert claim(app) == []
    queues = {item["queue"]: item for item in http.get("/admin/queues").json()["items"]}
    assert (queues["default"]["paused"], queues["default"]["ready"], queues["other"]["paused"]) == (True, 2, False)
    for _ in range(2):
        answer = http.post("/admin/queues/default/resume")
        assert (answer.status_code, answer.json()["paused"]) == (200, False)
    assert len(claim(app)) == 2 * 4


def test_metrics_and_health_say_what_is_paused(app: CeleriacApp, http: Http, monkeypatch: pytest.MonkeyPatch):
    publish(app)
    assert "paused" not in http.get("/health").json()["checks"]
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    assert http.get("/health").json()["status"] == "degraded", "work has waited with no worker"
    http.post("/admin/queues/default/pause")
    health = http.get("/health").json()
    assert (health["status"], health["checks"]["paused"]) == ("healthy", ["default"])
    metrics = http.get("/metrics").text
    assert 'celeriac_queue_paused{queue="default"} 1.0' in metrics
    assert 'celeriac_queue_paused{queue="other"} 0.0' in metrics


@pytest.mark.parametrize("act", ["pause", "resume", ""])
def test_a_queue_that_is_not_there_is_404(app: CeleriacApp, http: Http, act: str):
    answer = http.post(f"/admin/queues/nothing/{act}") if act else http.get("/admin/queues/nothing")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"] == "no queue 'nothing': known are default, other"
    assert app.pauses.queues() == set()


def test_pauses_are_audited(sqlite_url: str, http: Http):
    Migrations(sqlite_url, []).upgrade()
    http.post("/admin/queues/default/pause")
    http.post("/admin/queues/nothing/resume")
    acts = [(act["what"], act["target"], act["status"]) for act in http.get("/admin/audit").json()["items"]]
    assert acts == [
        ("POST /admin/queues/{queue}/resume", "/admin/queues/nothing/resume", 404),
        ("POST /admin/queues/{queue}/pause", "/admin/queues/default/pause", 200),
    ]


def test_a_queue_stays_paused_when_redis_is_killed():
    keys = Keys("app:")
    with RedisServer() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        Pauses(client, keys).pause("q")
        client.lpush(keys.ready("q"), "{}")
        server.kill()
        server.start()
        assert Pauses(client, keys).queues() == {"q"}
        assert Leases(client, keys).claim(["q"], 1) == []
