"""Following tasks over the network: with real workers, and with clients that stop reading or go away."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI

from celeriac import CeleriacApp, Unavailable
from celeriac.access import Scope, Token, token_hash
from celeriac.client import ApiError, Client
from celeriac.client.event_stream import Message, read
from celeriac.results.records import StoredResult
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from celeriac_api.metrics import LISTENERS
from tests.api import served
from tests.platform import TOKEN, Platform, wait_for
from tests.servers import RedisServer

MakeApp = Callable[..., CeleriacApp]

#: A stream that says nothing for so long is dead, seconds.
SILENCE = 40


@contextmanager
def stream(platform: Platform, path: str, last_id: str = "") -> Iterator[Iterator[Message]]:
    """The messages of a stream, heartbeats included."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with platform.http.stream("GET", path, headers=headers, timeout=SILENCE) as response:
        assert response.status_code == 200
        yield read(response.iter_bytes())


def follow(platform: Platform, task_id: str, last_id: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Ids and tasks until the end of a stream."""
    with stream(platform, f"/tasks/{task_id}/events", last_id) as messages:
        return [(each.last_id, json.loads(each.data)) for each in messages if each.data is not None]


def client_of(platform: Platform) -> Client:
    return Client(f"http://127.0.0.1:{platform.port}", TOKEN)


def listening(platform: Platform) -> float:
    text = httpx.get(f"http://127.0.0.1:{platform.port}/metrics").text
    (found,) = re.findall(r"^celeriac_http_listeners (\S+)$", text, re.MULTILINE)
    return float(found)


def test_a_task_is_followed_from_its_submit_to_its_end(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.long_running", 4, 20)
    with ThreadPoolExecutor() as pool:
        following = pool.submit(follow, platform, task_id)
        waiting = pool.submit(platform.http.get, f"/tasks/{task_id}?wait=60s", timeout=70)
        wait_for(lambda: listening(platform) == 2, "both to listen")
        platform.start_worker("default")
        events = following.result(60)
        waited = waiting.result(60).json()
    states = [task["state"] for _, task in events]
    assert (states[0], states[-1]) == ("PENDING", "SUCCESS")
    assert set(states) == {"PENDING", "STARTED", "PROGRESS", "SUCCESS"}
    progress = [task["current"] for _, task in events if task["state"] == "PROGRESS"]
    assert progress == sorted(progress)
    assert len(progress) > 3
    assert events[-1][1] == waited == platform.task(task_id)

    last, before = events[-1][0], events[-2][0]
    again = platform.http.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": last})
    assert (again.status_code, again.content) == (204, b"")
    assert follow(platform, task_id, before) == [events[-1]]
    assert listening(platform) == 0


def test_many_listeners_hear_the_end_of_each_task(platform: Platform):
    platform.start_api()
    platform.start_worker("default", concurrency=2)
    tasks = [{"name": "examples.add", "args": [number, 1], "countdown": number % 5} for number in range(60)]
    accepted = platform.http.post("/tasks/bulk", json={"tasks": tasks}).json()["tasks"]
    with ThreadPoolExecutor(60) as pool:
        followed = list(pool.map(lambda item: follow(platform, item["task_id"])[-1][1], accepted))
    assert [(task["state"], task["result"]) for task in followed] == [("SUCCESS", number + 1) for number in range(60)]


def test_the_changes_of_all_tasks_are_followed_and_resumed(platform: Platform):
    platform.start_api()
    with stream(platform, "/tasks/events?name=examples.add") as messages:
        begun = next(messages)
        assert begun.data is None
        platform.submit("examples.process_data", [1])
        task_id = platform.submit("examples.add", 1, 2)
        submitted = next(message for message in messages if message.data is not None)
        platform.start_worker("default")
        rest = []
        while "SUCCESS" not in rest:
            message = next(messages)
            rest += [json.loads(message.data)["state"]] if message.data is not None else []
    seen = json.loads(str(submitted.data))
    assert seen == {
        "task_id": task_id,
        "name": "examples.add",
        "queue": "default",
        "state": "PENDING",
        "at": seen["at"],
    }
    assert platform.task(task_id)["submitted_at"] <= seen["at"]
    assert rest == ["STARTED", "SUCCESS"]
    with stream(platform, "/tasks/events?state=SUCCESS&name=examples.add", submitted.last_id) as messages:
        assert next(messages).last_id == submitted.last_id
        resumed = next(message for message in messages if message.data is not None)
    assert json.loads(str(resumed.data))["task_id"] == task_id


def test_the_end_is_heard_though_redis_was_killed_while_the_task_ran(platform: Platform):
    with RedisServer() as server:
        platform.environment["REDIS_URL"] = server.url
        platform.start_api()
        platform.start_worker("default")
        task_id = platform.submit("examples.long_running", 6, 60)
        with ThreadPoolExecutor(20) as pool:
            following = [pool.submit(follow, platform, task_id) for _ in range(20)]
            platform.wait_for_state(task_id, "PROGRESS")
            server.kill()
            server.start()
            for each in following:
                assert each.result(60)[-1][1]["state"] == "SUCCESS"


def test_a_client_that_goes_away_is_forgotten_at_once(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.add", 1, 2)
    with ExitStack() as stack:
        paths = [f"/tasks/{task_id}/events", "/tasks/events"] * 10
        streams = [stack.enter_context(stream(platform, path)) for path in paths]
        assert all(next(messages) for messages in streams)
        waiting = httpx.Client(base_url=platform.http.base_url, headers=platform.http.headers, timeout=1)
        with pytest.raises(httpx.ReadTimeout):
            waiting.get(f"/tasks/{task_id}?wait=60")
        waiting.close()
        assert listening(platform) == 20
    wait_for(lambda: listening(platform) == 0, "all to be forgotten", 2)


def test_the_api_ends_at_once_though_many_streams_are_open(platform: Platform):
    process = platform.start_api()
    task_id = platform.submit("examples.add", 1, 2)
    with ThreadPoolExecutor(100) as pool:
        following = [pool.submit(follow, platform, task_id) for _ in range(60)]
        waiting = [pool.submit(platform.http.get, f"/tasks/{task_id}?wait=60s", timeout=70) for _ in range(20)]
        wait_for(lambda: listening(platform) == 80, "all to listen")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert time.monotonic() - start < 5
        for each in following:
            assert [task["state"] for _, task in each.result(5)] == ["PENDING"], "the stream has ended, not broken off"
        assert {each.result(5).json()["state"] for each in waiting} == {"PENDING"}
    assert "Traceback" not in platform.log("api")


def test_the_python_client_follows_and_waits_also_while_the_api_is_restarted(platform: Platform):
    process = platform.start_api()
    platform.start_worker("default")
    with client_of(platform) as client:
        task_id = platform.submit("examples.long_running", 5, 50)
        states = []
        for task in client.follow_task(task_id):
            states.append(task.state)
            if len(states) == 3:
                process.terminate()
                process.wait(20)
                threading.Timer(0.5, platform.start_api).start()
        assert states[-1] == "SUCCESS"
        assert list(client.follow_task(task_id))[-1].state == "SUCCESS"
        assert client.wait(platform.submit("examples.add", 2, 3), timeout_seconds=30).result == 5
        late = platform.submit("examples.add", 1, 1, countdown=3600)
        start = time.monotonic()
        assert client.wait(late, timeout_seconds=0.5).state == "PENDING"
        assert 0.5 <= time.monotonic() - start < 5
        with pytest.raises(ApiError, match="404 Not found: no task 'never'"):
            next(client.follow_task("never"))


def test_the_python_client_says_that_no_api_answers(platform: Platform):
    with client_of(platform) as client, pytest.raises(Unavailable, match="does it run"):
        next(client.follow_task("one"))


def test_the_command_follows_a_task_as_lines_of_json_or_as_a_table(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    task_id = platform.submit("examples.long_running", 2, 10)
    followed = platform.run("tasks", "watch", task_id, "--json")
    assert followed.returncode == 0, followed.stderr
    tasks = [json.loads(line) for line in followed.stdout.splitlines()]
    assert (tasks[-1]["state"], tasks[-1]["ready"]) == ("SUCCESS", True)
    assert {task["task_id"] for task in tasks} == {task_id}
    shown = platform.run("tasks", "watch", task_id)
    assert (shown.returncode, '"SUCCESS"' in shown.stdout) == (0, True)
    unknown = platform.run("tasks", "watch", "never")
    assert (unknown.returncode, "no task 'never'" in unknown.stderr) == (1, True)


def test_curl_shows_the_events_as_they_come(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.add", 1, 2)
    url = f"http://127.0.0.1:{platform.port}/tasks/{task_id}/events"
    command = ["curl", "-sN", url, "-H", f"Authorization: Bearer {TOKEN}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = [curl.stdout.readline() for _ in range(3)]
        curl.kill()
    assert re.fullmatch(r"id: \d+-\d+\n", lines[0])
    assert json.loads(lines[1].removeprefix("data: "))["state"] == "PENDING"
    assert lines[2] == "\n"


# In the process of the test, to turn its times


@pytest.fixture
def app(redis_url: str, make_app: MakeApp) -> CeleriacApp:
    app = make_app(redis_url=redis_url, workloads=("workloads.examples",))
    app.records.add("one", name="examples.add", queue="default", priority=5)
    return app


def api_of(app: CeleriacApp, tokens: dict[str, Token]) -> FastAPI:
    return create_api(app, Authenticator(tokens, dict))


READER = {token_hash("t"): Token("t", frozenset({Scope.READ}))}


def progress(app: CeleriacApp, current: int, size: int = 0) -> None:
    value = {"current": current, "message": "x" * size}
    app.records.store("one", "PROGRESS", result=StoredResult(json.dumps({"result": value}), 60))


def test_a_client_that_stops_reading_is_dropped_and_keeps_nobody_waiting(redis_url: str, make_app: MakeApp):
    app = make_app(redis_url=redis_url, workloads=("workloads.examples",), api={"unread_seconds": 2})
    app.records.add("one", name="examples.add", queue="default", priority=5)
    before = LISTENERS._value.get()
    with served(app, api_of(app, READER)) as port, socket.socket() as slow, httpx.Client(timeout=30) as http:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        slow.sendall(b"GET /tasks/one/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n")
        url, headers = f"http://127.0.0.1:{port}/tasks/one/events", {"Authorization": "Bearer t"}
        with http.stream("GET", url, headers=headers) as response:
            seen = 0
            for message in read(response.iter_bytes()):
                assert message.data is not None
                if json.loads(message.data)["ready"]:
                    break
                # One at a time, so that none is merged for the one that reads.
                seen += 1
                if seen < 40:
                    progress(app, seen, size=1_000_000)
                else:
                    app.records.store("one", "SUCCESS")
        assert seen == 40
        wait_for(lambda: LISTENERS._value.get() == before, "the client that does not read to be dropped", 20)


class Revocable(Authenticator):
    """Knows one token until that is revoked."""

    revoked = False

    async def token(self, secret: str) -> Token | None:
        return None if self.revoked else READER[token_hash(secret)]


def test_a_stream_ends_when_its_token_is_revoked(app: CeleriacApp, monkeypatch: pytest.MonkeyPatch):
    for module in ("celeriac_api.listeners", "celeriac_api.routes.events"):
        monkeypatch.setattr(f"{module}.HEARTBEAT_SECONDS", 0.3)
    authenticator = Revocable({}, dict)
    with served(app, create_api(app, authenticator)) as port, ExitStack() as stack:
        http = stack.enter_context(httpx.Client(timeout=30, headers={"Authorization": "Bearer t"}))
        streams = []
        for path in ("/tasks/one/events", "/tasks/events"):
            response = stack.enter_context(http.stream("GET", f"http://127.0.0.1:{port}{path}"))
            streams.append(read(response.iter_bytes()))
            next(streams[-1])
            assert next(streams[-1]).data is None, "a heartbeat"
        authenticator.revoked = True
        start = time.monotonic()
        assert {message.data for messages in streams for message in messages} <= {None}
        assert time.monotonic() - start < 10


def test_a_slow_reader_gets_what_is_the_latest_then(app: CeleriacApp):
    with served(app, api_of(app, READER)) as port, httpx.Client(timeout=30) as http:
        url, headers = f"http://127.0.0.1:{port}/tasks/one/events", {"Authorization": "Bearer t"}
        with http.stream("GET", url, headers=headers) as response:
            messages = read(response.iter_bytes())
            next(messages)
            for number in range(200):
                progress(app, number, size=300_000)
            app.records.store("one", "SUCCESS")
            time.sleep(0.5)
            tasks = [json.loads(each.data) for each in messages if each.data is not None]
    assert tasks[-1]["state"] == "SUCCESS"
    assert len(tasks) < 150


def test_the_listener_of_redis_is_one_for_each_process(platform: Platform):
    platform.start_api()
    task_id = platform.submit("examples.add", 1, 2)
    with ExitStack() as stack, redis.Redis.from_url(platform.environment["REDIS_URL"]) as client:
        streams = [stack.enter_context(stream(platform, f"/tasks/{task_id}/events")) for _ in range(20)]
        assert all(next(messages) for messages in streams)
        assert sum(each["cmd"] == "xread" for each in client.client_list()) == 1
