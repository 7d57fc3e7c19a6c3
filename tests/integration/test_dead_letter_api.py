"""Dead letters and queues by HTTP, on a real Redis: what is shown, replayed, dropped, and what becomes of the task."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
import redis
from celery import chord
from redis.connection import Connection

from celeriac import CeleriacApp
from celeriac.broker import messages
from celeriac.broker.dead_letters import DeadLetter, DeadLetters, Selection
from celeriac.broker.leases import DeathNotice, Delivery, Leases
from celeriac.publishing import cancel
from celeriac.publishing.dead_letters import drop, drop_all, replay, replay_all
from celeriac.registry import WorkerRecord
from celeriac.results.deaths import end_task
from celeriac_api.app import create_api
from tests.api import Http

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


def publish(app: CeleriacApp, name: str = "examples.add", queue: str = "default", **options: Any) -> str:
    return str(app.send_task(name, (1, 2), queue=queue, **options).id)


def claim(app: CeleriacApp, queue: str = "default") -> Delivery:
    _, tag, _, _ = app.leases.claim([queue], 1)
    return Delivery(queue, int(tag))


def kill(
    app: CeleriacApp, name: str = "examples.add", queue: str = "default", reason: str = "rejected", error: str = ""
) -> str:
    """Publish a task whose message becomes a dead letter; gives its id."""
    task_id = publish(app, name, queue)
    assert app.leases.bury(claim(app, queue), reason, error)
    return task_id


def listed(http: Http, **wanted: Any) -> list[dict[str, Any]]:
    answer = http.get("/admin/dead-letters", params=wanted)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def ids(http: Http, **wanted: Any) -> list[str]:
    return [item["task_id"] for item in listed(http, **wanted)]


def test_a_dead_letter_says_what_died_when_where_and_why(app: CeleriacApp, http: Http):
    before = time.time()
    task_id = kill(app, reason="it is tired", error="ValueError('é')")
    (letter,) = listed(http)
    assert (letter["task_id"], letter["task"], letter["queue"]) == (task_id, "examples.add", "default")
    assert (letter["reason"], letter["error"], letter["deliveries"]) == ("it is tired", "ValueError('é')", 0)
    assert letter["worker"] == app.leases.owner
    assert before - 1 < datetime.fromisoformat(letter["died_at"]).timestamp() < time.time() + 1
    shown = http.get(f"/admin/dead-letters/{letter['tag']}").json()
    assert shown.items() > letter.items()
    assert (shown["args"], shown["kwargs"]) == ([1, 2], {})
    assert json.loads(shown["message"])["headers"]["id"] == task_id


def test_the_task_has_failed_and_says_why(app: CeleriacApp, http: Http):
    task_id = kill(app, reason="it is tired", error="ValueError('é')")
    task = http.get(f"/tasks/{task_id}").json()
    assert (task["state"], task["ready"]) == ("FAILURE", True)
    expected = "DeadLettered: it is tired: ValueError('é'); its message is a dead letter of queue default"
    assert task["error"] == expected
    assert type(app.AsyncResult(task_id).result).__name__ == "DeadLettered"


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_task_that_has_ended_stays_as_it_is(app: CeleriacApp, state: str):
    task_id = publish(app)
    delivery = claim(app)
    if state == "REVOKED":
        cancel(app, task_id)
    else:
        app.backend.store_result(task_id, ValueError("its own") if state == "FAILURE" else 3, state)
    before = app.records.require(task_id)
    assert app.leases.bury(delivery, "rejected")
    assert app.records.require(task_id) == before


def test_a_death_that_is_told_twice_counts_once_for_its_chord(app: CeleriacApp):
    """The first who told of it may have been killed before the message was moved."""
    parts = [app.signature("examples.add", (1, 2), queue="default", task_id=task_id) for task_id in ("one", "two")]
    body_id = chord(parts, app=app)(app.signature("examples.process_data", queue="other")).id
    first, second = claim(app), claim(app)
    for _ in range(2):
        message = messages.parse(app.leases.raw(first) or "")
        end_task(app, DeathNotice(first, message, "it is tired", ""))
        assert app.records.state("one") == "FAILURE"
        assert app.AsyncResult(body_id).state == "PENDING", "the other part is still to come"
    assert app.leases.bury(first, "it is tired")
    assert app.leases.bury(second, "it is tired")
    assert app.AsyncResult(body_id).state == "FAILURE"


def test_pages_go_on_where_the_last_ended_whatever_happens_in_between(app: CeleriacApp, http: Http):
    made = [kill(app, queue=queue) for _ in range(4) for queue in ("default", "other", "default")]
    newest_first = list(reversed(made))
    assert ids(http) == newest_first
    assert http.get("/admin/dead-letters", params={"limit": 100}).json()["cursor"] is None

    first = http.get("/admin/dead-letters", params={"limit": 5}).json()
    assert [item["task_id"] for item in first["items"]] == newest_first[:5]
    kill(app)
    dropped = first["items"][4]["tag"], listed(http)[7]["tag"]
    for tag in dropped:
        assert http.delete(f"/admin/dead-letters/{tag}").status_code == 200
    second = http.get("/admin/dead-letters", params={"limit": 100, "cursor": first["cursor"]}).json()
    assert [item["task_id"] for item in second["items"]] == [*newest_first[5:6], *newest_first[7:]]


def test_letters_of_one_moment_are_each_shown_once(app: CeleriacApp, http: Http, redis_url: str):
    """Two of one queue never have the same moment; those of two queues may."""
    kill(app, queue="default")
    kill(app, queue="other")
    with redis.Redis.from_url(redis_url) as client:
        moment = DeadLetter.parse(client.lindex("celeriac:dead:default", 0)).died_ms
        letter = json.loads(client.lindex("celeriac:dead:other", 0)) | {"died_ms": moment}
        client.lset("celeriac:dead:other", 0, json.dumps(letter, separators=(",", ":")))
        seen = []
        cursor: str | None = None
        while True:
            asked = {"limit": 1} | ({"cursor": cursor} if cursor else {})
            page = http.get("/admin/dead-letters", params=asked).json()
            seen += [item["queue"] for item in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert seen == ["default", "other"]
        for raw in client.lrange("celeriac:dead:default", 0, -1):
            client.lpush("celeriac:dead:default", raw.replace(b"%d" % moment, b"%d" % (moment + 10_000)))
        kill(app)
        assert DeadLetter.parse(client.lindex("celeriac:dead:default", 0)).died_ms == moment + 10_001


def test_a_list_is_filtered(app: CeleriacApp, http: Http):
    one = kill(app, "examples.add", "default", "it names no task")
    two = kill(app, "examples.process_data", "default", "delivered 5 times without an end")
    three = kill(app, "examples.add", "other", "delivered 2 times without an end")
    assert ids(http, queue="default") == [two, one]
    assert ids(http, task="examples.add") == [three, one]
    assert ids(http, reason="WITHOUT an end") == [three, two]
    assert ids(http, reason="without", task="examples.add", queue="default") == []
    assert ids(http, queue="unknown") == []


@pytest.mark.parametrize("cursor", ["x", "", ":", "5", "5:", ":default", "99999999999999999:default", "-5:default"])
def test_a_cursor_that_is_none_is_refused(http: Http, cursor: str):
    answer = http.get("/admin/dead-letters", params={"cursor": cursor})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("cursor: give the cursor of a page")


@pytest.mark.parametrize("path", ["/admin/dead-letters/5", "/admin/dead-letters/5/replay"])
def test_a_letter_that_is_not_there_is_404(http: Http, path: str):
    answers = [http.post(path)] if path.endswith("replay") else [http.get(path), http.delete(path)]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("no dead letter 5: it was replayed or dropped")


@pytest.mark.parametrize("action", ["replay", "drop"])
@pytest.mark.parametrize("body", [None, [], {"queues": "default"}, {"task": 5}])
def test_many_are_replayed_or_dropped_only_on_a_clear_word(app: CeleriacApp, http: Http, action: str, body: object):
    kill(app)
    assert http.post(f"/admin/dead-letters/{action}", json=body).status_code == 422
    assert len(listed(http)) == 1


def test_what_is_replayed_waits_again_as_if_it_were_new(app: CeleriacApp, http: Http):
    task_id = publish(app, priority=9)
    for _ in range(3):
        delivery = Delivery("default", int(app.leases.claim(["default"], 1, marks_starts=False)[1]))
        assert app.leases.give_up(delivery, "killed") == "returned"
    app.leases.bury(claim(app), "rejected")
    (letter,) = listed(http)
    assert letter["deliveries"] == 3
    moment = int(time.time() * 1000)

    answer = http.post(f"/admin/dead-letters/{letter['tag']}/replay")
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/tasks/{task_id}")
    assert answer.json() == {
        "tag": letter["tag"],
        "queue": "default",
        "task_id": task_id,
        "status_url": f"/tasks/{task_id}",
    }
    task = http.get(f"/tasks/{task_id}").json()
    assert (task["state"], task["priority"]) == ("PENDING", 9)
    assert "error" not in task
    (raw,) = app.redis.lrange("default:9", 0, -1)
    headers = json.loads(raw)["headers"]
    assert headers["x-delivery-count"] == 0
    assert headers["celeriac_submitted_ms"] >= moment, "it waits from now on"
    assert app.AsyncResult(task_id).state == "PENDING"
    assert listed(http) == []
    assert http.post(f"/admin/dead-letters/{letter['tag']}/replay").status_code == 404


def test_a_task_whose_record_has_expired_can_be_replayed(app: CeleriacApp, http: Http):
    task_id = kill(app, queue="other")
    app.redis.delete(app.keys.task(task_id), app.keys.result(task_id))
    assert http.post("/admin/dead-letters/replay", json={}).json() == {"replayed": 1}
    task = http.get(f"/tasks/{task_id}").json()
    assert (task["state"], task["name"], task["queue"], task["priority"]) == ("PENDING", "examples.add", "other", 5)


@pytest.mark.parametrize("state", ["SUCCESS", "REVOKED"])
def test_replaying_brings_no_task_back_that_did_not_fail(app: CeleriacApp, state: str):
    task_id = publish(app)
    delivery = claim(app)
    app.backend.store_result(task_id, 3, state)
    app.leases.bury(delivery, "rejected")
    assert replay_all(app, Selection()) == 1
    assert app.records.state(task_id) == state


def test_many_are_replayed_the_first_to_die_first(app: CeleriacApp, http: Http):
    kept = kill(app, "examples.process_data")
    made = [kill(app) for _ in range(250)]
    assert http.post("/admin/dead-letters/replay", json={"task": "examples.add"}).json() == {"replayed": 250}
    assert ids(http) == [kept]
    waiting = [json.loads(raw)["headers"]["id"] for raw in app.redis.lrange("default", 0, -1)]
    assert waiting == list(reversed(made)), "the last in the list is the next"


def test_what_dies_again_while_many_are_replayed_is_left(app: CeleriacApp, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        kill(app)

    def replay_and_die(self: DeadLetters, letter: DeadLetter, *_options: object) -> bool:
        return self.drop(letter) and bool(kill(app))

    monkeypatch.setattr(DeadLetters, "replay", replay_and_die)
    assert replay_all(app, Selection()) == 3
    assert len(app.dead_letters.page()) == 3


def test_a_dropped_letter_is_gone_and_its_task_stays_failed(app: CeleriacApp, http: Http):
    task_id, other = kill(app), kill(app, queue="other")
    tag = listed(http, queue="default")[0]["tag"]
    assert http.delete(f"/admin/dead-letters/{tag}").json()["task_id"] == task_id
    assert http.delete(f"/admin/dead-letters/{tag}").status_code == 404
    assert ids(http) == [other]
    assert http.post("/admin/dead-letters/drop", json={"queue": "other"}).json() == {"dropped": 1}
    assert http.get(f"/tasks/{task_id}").json()["state"] == "FAILURE"
    assert app.redis.llen("default") == app.redis.llen("other") == 0


def test_a_letter_that_is_dropped_while_it_is_replayed_leaves_its_task_failed(
    app: CeleriacApp, monkeypatch: pytest.MonkeyPatch
):
    task_id = kill(app)
    error = app.records.require(task_id).error
    (letter,) = app.dead_letters.page()
    replay_it = DeadLetters.replay

    def drop_and_replay(self: DeadLetters, letter: DeadLetter, *options: Any) -> bool:
        assert drop(app, letter)
        return replay_it(self, letter, *options)

    monkeypatch.setattr(DeadLetters, "replay", drop_and_replay)
    assert not replay(app, letter)
    task = app.records.require(task_id)
    assert (task.state, task.error) == ("FAILURE", error)
    assert app.redis.llen("default") == 0


def test_each_letter_is_replayed_or_dropped_whoever_comes_first(app: CeleriacApp):
    task_ids = [kill(app) for _ in range(100)]
    with ThreadPoolExecutor(2) as pool:
        replayed, dropped = [pool.submit(do, app, Selection()) for do in (replay_all, drop_all)]
    assert replayed.result() + dropped.result() == len(task_ids)
    ready = {json.loads(raw)["headers"]["id"] for raw in app.redis.lrange("default", 0, -1)}
    assert len(ready) == replayed.result()
    assert [app.records.state(task_id) for task_id in task_ids] == [
        "PENDING" if task_id in ready else "FAILURE" for task_id in task_ids
    ]


def test_a_letter_of_a_task_that_runs_by_another_leaves_its_record(app: CeleriacApp):
    task_id = kill(app)
    (letter,) = app.dead_letters.page()
    raw = app.redis.lindex(app.keys.dead("default"), 0)
    assert replay(app, letter)
    app.redis.rpush(app.keys.dead("default"), raw)
    assert app.records.begin(task_id, claim(app), retries=0, worker="w", started=None) == "run"
    assert replay(app, letter)
    assert app.records.state(task_id) == "STARTED"


def test_of_two_who_replay_a_letter_one_does(app: CeleriacApp):
    kill(app)
    (letter,) = app.dead_letters.page()
    assert [replay(app, letter), replay(app, letter)] == [True, False]
    assert app.redis.llen("default") == 1


def test_bytes_that_are_no_text_come_back_as_they_were(app: CeleriacApp, http: Http, redis_url: str):
    content = b'\xff\x00garbage "tag":"5" \xed\xa0\x80 \\ / \x7f'
    with redis.Redis.from_url(redis_url) as client:
        publish(app)
        client.lset("default", 0, content)
        leases = Leases(client, app.keys)
        _, tag, _, _ = leases.claim(["default"], 1)
        assert leases.bury(Delivery("default", int(tag)), "it is no message")
        (letter,) = listed(http)
        assert (letter["tag"], letter["task_id"], letter["task"]) == (str(tag.decode()), None, None)
        shown = http.get(f"/admin/dead-letters/{letter['tag']}").json()
        assert "garbage" in shown["message"]
        assert (shown["args"], shown["kwargs"]) == (None, None)
        assert http.get("/admin/dead-letters/5").status_code == 404
        answer = http.post(f"/admin/dead-letters/{letter['tag']}/replay")
        assert (answer.status_code, answer.json()["status_url"]) == (202, None)
        assert client.lrange("default", 0, -1) == [content]


def test_queues_show_what_is_in_them(app: CeleriacApp, http: Http):
    for _ in range(3):
        publish(app)
    publish(app, priority=9)
    publish(app, countdown=3600)
    publish(app, countdown=3600, queue="other")
    kill(app, queue="other")
    claim(app)
    queues = {item.pop("queue"): item for item in http.get("/admin/queues").json()["items"]}
    assert 0 <= queues["default"].pop("oldest_seconds") < 60
    assert queues == {
        "default": {
            "ready": 3,
            "in_flight": 1,
            "delayed": 1,
            "dead": 0,
            "workers": 0,
            "slots": 0,
            "paused": False,
            "versions": [],
        },
        "other": {
            "ready": 0,
            "in_flight": 0,
            "delayed": 1,
            "dead": 1,
            "oldest_seconds": 0,
            "workers": 0,
            "slots": 0,
            "paused": False,
            "versions": [],
        },
    }
    metrics = http.get("/metrics").text
    for line in (
        'celeriac_queue_ready{queue="default"} 3.0',
        'celeriac_queue_in_flight{queue="default"} 1.0',
        'celeriac_queue_delayed{queue="other"} 1.0',
        'celeriac_dead_letters{queue="other"} 1.0',
        'celeriac_dead_letters{queue="default"} 0.0',
    ):
        assert line in metrics


def test_health_asks_redis_twice(app: CeleriacApp, http: Http, monkeypatch: pytest.MonkeyPatch):
    http.get("/health")
    app.registry.write(
        WorkerRecord("one", ("default",), slots=2, busy=0, consumer="consuming", version="0", pid=1, started_at="")
    )
    sent: list[object] = []
    send = Connection.send_packed_command
    monkeypatch.setattr(
        Connection, "send_packed_command", lambda *args, **kw: (sent.append(args), send(*args, **kw))[1]
    )
    assert http.get("/health").json()["checks"]["workers"]["default"] == 1
    assert len(sent) == 2


def test_a_delayed_task_that_is_cancelled_waits_no_longer(app: CeleriacApp, http: Http):
    answer = http.post("/tasks", json={"name": "examples.add", "args": [1, 2], "countdown": 3600})
    task_id = answer.json()["task_id"]
    waiting = http.get(f"/tasks/{task_id}").json()
    assert waiting["state"] == "PENDING"
    assert 3500 < datetime.fromisoformat(waiting["eta"]).timestamp() - time.time() <= 3600
    assert app.redis.zcard("celeriac:delayed:default") == app.redis.hlen("celeriac:delayed-messages:default") == 1
    cancelled = http.delete(f"/tasks/{task_id}").json()
    assert cancelled["state"] == "REVOKED"
    assert "eta" not in cancelled
    assert app.redis.zcard("celeriac:delayed:default") == app.redis.hlen("celeriac:delayed-messages:default") == 0


def test_what_was_delayed_counts_as_waiting_from_when_it_was_due(app: CeleriacApp, http: Http):
    publish(app, countdown=1)
    raw = app.redis.hvals("celeriac:delayed-messages:default")[0].split("\n", 1)[1]
    message = json.loads(raw)
    message["headers"]["celeriac_submitted_ms"] -= 7_200_000
    app.redis.lpush("default", json.dumps(message))
    assert http.get("/admin/queues").json()["items"][0]["oldest_seconds"] < 60
    assert http.get("/health").json()["status"] == "healthy"
