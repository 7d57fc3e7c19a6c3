"""Tasks from the submit to their end, through the API and real workers."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis

from celeriac import create_app
from celeriac.access import Scope, Token, token_hash
from celeriac.results.records import StoredResult
from celeriac.settings import Settings
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http
from tests.platform import Platform, wait_for
from tests.servers import RedisServer


def test_a_submitted_task_runs_and_its_result_is_shown(platform: Platform):
    platform.start_api()
    answer = platform.http.post("/tasks", json={"name": "examples.add", "args": [2, 3], "priority": 0})
    task_id = answer.json()["task_id"]
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json()["status_url"] == f"/tasks/{task_id}"
    assert answer.json()["mode"] == "celery"
    waiting = platform.task(task_id)
    assert (waiting["state"], waiting["status"], waiting["priority"]) == ("PENDING", "waiting to run", 0)
    assert not waiting.keys() & {"result", "error", "started_at", "finished_at", "worker"}

    platform.start_worker("default")
    done = platform.wait(task_id)
    assert (done["state"], done["result"], done["queue"], done["successful"]) == ("SUCCESS", 5, "default", True)
    assert done["submitted_at"] <= done["started_at"] <= done["finished_at"]
    assert done["worker"].startswith("default-")


def test_the_example_tasks_give_what_the_tutorial_says(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    counted = platform.submit("examples.process_data", [1, 2, 3])
    long = platform.submit("examples.long_running", 1, 4)
    assert platform.wait(counted)["result"] == {"processed": True, "count": 3}
    assert platform.wait(long)["result"] == {"status": "completed", "result": 4}


def test_progress_is_shown_while_a_task_runs(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    task_id = platform.submit("examples.long_running", 20, 40)
    running = platform.wait_for_state(task_id, "PROGRESS")
    assert running["total"] == 40
    assert 1 <= running["current"] < 40
    assert running["percent"] == pytest.approx(100 * running["current"] / 40, abs=0.1)
    assert running["message"] == f"step {running['current']} of 40"


def test_a_permanent_error_fails_the_task_at_once(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    failed = platform.wait(platform.submit("examples.long_running", -1))
    assert failed["state"] == "FAILURE"
    assert failed["error"].startswith("PermanentError: seconds must be 0 or more")
    assert failed["retries"] == 0


def test_a_temporary_error_is_tried_again_later(platform: Platform):
    platform.environment["CELERIAC_SMTP__PORT"] = "9"  # nobody listens
    platform.start_api()
    platform.start_worker("default")
    task_id = platform.submit("examples.send_email", "someone@example.com", "hello", "there")
    waiting = platform.wait_for_state(task_id, "RETRY")
    assert "does not answer" in waiting["error"]
    assert not waiting["ready"]


def test_a_task_that_has_failed_is_tried_again_under_its_id(platform: Platform):
    platform.environment["CELERIAC_SMTP__PORT"] = "9"  # nobody listens
    platform.start_api()
    worker = platform.start_worker("default")
    task_id = platform.submit("examples.long_running", -1)
    failed = platform.wait(task_id)
    assert failed["error"].startswith("PermanentError")
    worker.terminate()
    worker.wait(30)

    again = platform.http.post(f"/tasks/{task_id}/retry")
    assert (again.status_code, again.headers["Location"]) == (202, f"/tasks/{task_id}")
    waiting = platform.task(task_id)
    assert (waiting["state"], waiting["retries"]) == ("PENDING", 0)
    assert waiting["submitted_at"] > failed["submitted_at"]
    assert not waiting.keys() & {"error", "finished_at"}
    refused = platform.http.post(f"/tasks/{task_id}/retry")
    assert (refused.status_code, "PENDING" in refused.json()["detail"]) == (409, True)

    platform.start_worker("default")
    assert platform.wait(task_id)["state"] == "FAILURE", "with the arguments it had"
    listed = json.loads(platform.run("tasks", "list", "--state", "FAILURE", "--json").stdout)
    assert [task["task_id"] for task in listed["tasks"]] == [task_id]
    assert platform.run("tasks", "retry", task_id).returncode == 0
    assert platform.http.post("/tasks/unknown/retry").status_code == 404


def test_tasks_are_listed_by_state_queue_name_and_time(platform: Platform):
    platform.start_api()
    first, second = platform.submit("examples.add", 1, 1), platform.submit("examples.add", 2, 2)
    other = platform.submit("examples.process_data", [1], queue="scheduled")
    platform.http.delete(f"/tasks/{first}")

    def listed(**asked: object) -> list[str]:
        answer = platform.http.get("/tasks", params=asked).json()
        return [task["task_id"] for task in answer["tasks"]]

    assert listed() == [other, second, first]
    assert listed(state="PENDING") == [other, second]
    assert listed(state="REVOKED") == [first]
    assert listed(queue="default") == [second, first]
    assert listed(queue="default", state="PENDING", name="examples.add") == [second]
    assert listed(name="examples.none") == []
    moment = platform.task(other)["submitted_at"]
    assert listed(since=moment) == [other]
    assert other not in listed(until=moment)

    page = platform.http.get("/tasks", params={"limit": 2}).json()
    rest = platform.http.get("/tasks", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [task["task_id"] for task in (*page["tasks"], *rest["tasks"])] == [other, second, first]
    assert rest["next_cursor"] is None
    assert rest["tasks"][0]["state"] == "REVOKED"


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ({"state": "DONE"}, "query.state: Input should be"),
        ({"since": "yesterday"}, "query.since: "),
        ({"until": "2026-01-31T12:00:00"}, "query.until: Input should have timezone info"),
        ({"limit": "0"}, "query.limit: "),
        ({"queue": ""}, "query.queue: "),
        ({"cursor": "somewhere"}, "cursor: give the next_cursor of a page of this list as it is"),
    ],
)
def test_a_wrong_question_names_its_field(redis_url: str, asked: dict[str, str], detail: str):
    settings = Settings(redis_url=redis_url, api_token="t", workloads=("workloads.examples",))
    answer = Http(create_api(create_app(settings)), "t").get("/tasks", params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith(detail)


def test_a_traceback_is_shown_to_administrators_only(redis_url: str):
    app = create_app(Settings(redis_url=redis_url, api_token="t", workloads=("workloads.examples",)))
    app.records.add("one", name="examples.add", queue="default", priority=5)
    value = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    app.records.store("one", "FAILURE", result=StoredResult(json.dumps({"result": value, "traceback": "code"}), 60))
    known = {token_hash(scope): Token(scope, frozenset({scope})) for scope in Scope} | {
        token_hash("both"): Token("both", frozenset({Scope.READ, Scope.ADMIN}))
    }
    api = create_api(app, Authenticator(known, dict))
    shown = {name: Http(api, name).get("/tasks/one").json().get("traceback") for name in ("read", "both")}
    assert shown == {"read": None, "both": "code"}
    (listed,) = Http(api, "both").get("/tasks").json()["tasks"]
    assert (listed["error"], "traceback" in listed) == ("ValueError: no", False)
    refused = {Http(api, name).post("/tasks/one/retry").status_code for name in ("read", "admin")}
    assert (refused, Http(api, "submit").post("/tasks/one/retry").status_code) == ({403}, 409)


def test_an_unknown_id_is_404(platform: Platform):
    platform.start_api()
    assert platform.http.get("/tasks/no-such-id").status_code == 404
    assert platform.http.delete("/tasks/no-such-id").status_code == 404


def test_a_task_that_is_cancelled_while_no_worker_is_up_never_runs(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.add", 1, 1)
    cancelled = platform.http.delete(f"/tasks/{task_id}").json()
    assert (cancelled["state"], cancelled["status"]) == ("REVOKED", "cancelled")
    assert platform.http.delete(f"/tasks/{task_id}").status_code == 200, "cancelling twice is no error"

    platform.start_worker("default")
    assert platform.wait(platform.submit("examples.add", 1, 1))["state"] == "SUCCESS", "the next one runs"
    after = platform.task(task_id)
    assert after["state"] == "REVOKED"
    assert "started_at" not in after


def test_a_running_task_is_terminated_when_it_is_cancelled(platform: Platform):
    platform.start_api()
    platform.start_worker("default", concurrency=1)
    task_id = platform.submit("examples.long_running", 300, 3000)
    platform.wait_for_state(task_id, "STARTED", "PROGRESS")
    assert platform.http.delete(f"/tasks/{task_id}").json()["state"] == "REVOKED"
    # The one slot is free again long before the task would have ended.
    assert platform.wait(platform.submit("examples.add", 1, 2), 30)["result"] == 3
    assert platform.task(task_id)["state"] == "REVOKED"


def test_a_finished_task_cannot_be_cancelled(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    task_id = platform.submit("examples.add", 1, 1)
    platform.wait(task_id)
    refused = platform.http.delete(f"/tasks/{task_id}")
    assert refused.status_code == 409
    assert "already finished" in refused.json()["detail"]


def test_the_task_of_a_killed_worker_runs_again(platform: Platform):
    platform.start_api()
    killed = platform.start_worker("default")
    task_id = platform.submit("examples.long_running", 3, 3)
    first = platform.wait_for_state(task_id, "STARTED", "PROGRESS")["worker"]
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    platform.start("worker", "default")
    done = platform.wait(task_id, 60)
    assert done["state"] == "SUCCESS"
    assert done["worker"] != first


def test_workers_are_counted_per_queue_and_in_total(platform: Platform):
    platform.start_api()
    before = platform.http.get("/health").json()
    assert before["status"] == "healthy"
    assert before["checks"]["celery_worker"] == "no active workers"
    platform.start_worker("default")
    worker = platform.start_worker("data_sync", "scheduled")
    checks = platform.http.get("/health").json()["checks"]
    assert checks["celery_worker"] == "ok (2 workers)"
    assert checks["workers"] == {"default": 1, "data_sync": 1, "scheduled": 1}
    metrics = httpx.get(f"http://127.0.0.1:{platform.port}/metrics").text
    assert 'celeriac_workers{queue="data_sync"} 1.0' in metrics
    assert 'celeriac_worker_slots{queue="default"} 2.0' in metrics
    worker.terminate()
    worker.wait(30)
    assert platform.http.get("/health").json()["checks"]["workers"]["data_sync"] == 0, "it takes itself off at once"


def test_a_killed_worker_stops_counting(platform: Platform):
    platform.start_api()
    worker = platform.start_worker("default")
    os.killpg(worker.pid, signal.SIGKILL)
    wait_for(lambda: platform.workers() == 0, "the record of the killed worker to expire", 15)


def test_work_that_waits_long_without_a_worker_is_degraded(platform: Platform):
    platform.start_api()
    platform.submit("examples.add", 1, 1)
    assert platform.http.get("/health").json()["status"] == "healthy", "it has only just come"
    app = create_app(Settings(redis_url=platform.environment["REDIS_URL"]))
    raw = app.redis.lindex("default", -1)
    now = int(app.redis.time()[0]) * 1000
    old = raw.replace('"celeriac_submitted_ms": ', f'"celeriac_submitted_ms": {now - 61_000}, "was": ')
    assert old != raw
    app.redis.lset("default", -1, old)
    health = platform.http.get("/health").json()
    assert health["status"] == "degraded"
    assert health["checks"]["waiting_without_worker"] == ["default"]


def test_an_expired_task_does_not_run(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.add", 1, 1, expires=0.1)
    platform.start_worker("default")
    assert platform.wait(task_id)["state"] == "REVOKED"
    assert "started_at" not in platform.task(task_id)


def test_a_task_that_runs_while_redis_is_killed_and_restarted_succeeds(platform: Platform):
    with RedisServer() as server:
        platform.environment["REDIS_URL"] = server.url
        platform.start_api()
        worker = platform.start_worker("default")
        task_id = platform.submit("examples.long_running", 6, 60)
        platform.wait_for_state(task_id, "PROGRESS")
        server.kill()
        server.start()
        done = wait_for(lambda: ended(platform, task_id), "the task to end", 60)
        assert done["state"] == "SUCCESS", done
        assert worker.poll() is None, "the worker goes on"
        assert platform.wait(platform.submit("examples.add", 1, 2))["result"] == 3


def ended(platform: Platform, task_id: str) -> dict[str, Any] | None:
    """The task, once it has ended; None also while the API has no connection."""
    answer = platform.http.get(f"/tasks/{task_id}")
    return dict(answer.json()) if answer.status_code == 200 and answer.json()["ready"] else None


def client(platform: Platform) -> redis.Redis:
    return redis.Redis.from_url(platform.environment["REDIS_URL"], decode_responses=True)


def test_many_tasks_are_submitted_in_one_request(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    tasks = [{"name": "examples.add", "args": [number, 1]} for number in range(50)]
    tasks[7] = {"name": "examples.nothing"}
    tasks[8] |= {"queue": "nowhere"}
    answer = platform.http.post("/tasks/bulk", json={"tasks": tasks})
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 48
    items = answer.json()["tasks"]
    for number, field in ((7, "name"), (8, "queue")):
        error = items[number].pop("error")
        assert (error["status"], items[number]) == (422, {})
        assert error["detail"].startswith(f"{field}: no such")
    for number in (0, 49):
        assert items[number]["status_url"] == f"/tasks/{items[number]['task_id']}"
        assert platform.wait(items[number]["task_id"])["result"] == number + 1
    refused = platform.http.post("/tasks/bulk", json={"tasks": []})
    assert (refused.status_code, refused.json()["detail"].split(":")[0]) == (422, "tasks")


def test_ten_thousand_tasks_fit_in_one_request_and_more_do_not(platform: Platform):
    platform.start_api()
    task = {"name": "examples.add", "args": [1, 2], "queue": "scheduled"}
    answer = platform.http.post("/tasks/bulk", json={"tasks": [task] * 10_000})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 10_000)
    assert client(platform).llen("scheduled") == 10_000
    refused = platform.http.post("/tasks/bulk", json={"tasks": [task] * 10_001})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("tasks: List should have at most 10000 items")
    assert client(platform).llen("scheduled") == 10_000


def test_a_submit_under_one_idempotency_key_runs_once(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    body = {"name": "examples.add", "args": [20, 22]}
    headers = {"Idempotency-Key": "order 7"}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: platform.http.post("/tasks", json=body, headers=headers), range(100)))
    assert {answer.status_code for answer in answers} == {202}
    (task_id,) = {answer.json()["task_id"] for answer in answers}
    assert platform.wait(task_id)["result"] == 42
    assert len(client(platform).keys("celeriac:task:*")) == 1
    again = platform.http.post("/tasks", json=body, headers=headers)
    assert again.json()["task_id"] == task_id
    other = platform.http.post("/tasks", json={**body, "args": [1, 1]}, headers=headers)
    assert (other.status_code, other.json()["title"]) == (409, "Conflict")
