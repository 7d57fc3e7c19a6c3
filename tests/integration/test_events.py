"""Following tasks in one process: no change is missed, whenever a listener comes and whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest
import redis
from fastapi import FastAPI
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac import CeleriacApp, Unavailable
from celeriac.access import Scope, Token, token_hash
from celeriac.client.event_stream import Message, read
from celeriac.events import Feed, TaskEvent, hub
from celeriac.results import TaskFilter, TaskState
from celeriac.results.records import StoredResult
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.platform import wait_for
from tests.servers import RedisServer, free_port

T = TypeVar("T")
MakeApp = Callable[..., CeleriacApp]

RACES = int(os.environ.get("CELERIAC_TEST_EXAMPLES", "60"))
#: Whoever waits longer has missed something, seconds.
PATIENCE = 60


@pytest.fixture
def app(redis_url: str, make_app: MakeApp) -> CeleriacApp:
    return make_app(redis_url=redis_url, workloads=("workloads.examples",))


@asynccontextmanager
async def client_of(app: CeleriacApp, *, scopes: frozenset[Scope] = frozenset({Scope.READ})) -> AsyncIterator[Any]:
    """A client of the platform's API in this event loop; a stream is answered when it has ended."""
    api = api_of(app, scopes)
    headers = {"Authorization": "Bearer t"}
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers, timeout=PATIENCE) as http:
        yield http
    app.task_events.close()
    await app.line.close()


def api_of(app: CeleriacApp, scopes: frozenset[Scope]) -> FastAPI:
    return create_api(app, Authenticator({token_hash("t"): Token("t", scopes)}, dict))


def run(asked: Awaitable[T]) -> T:
    async def patiently() -> T:
        async with asyncio.timeout(PATIENCE):
            return await asked

    return asyncio.run(patiently())


def add(app: CeleriacApp, task_id: str = "one", *, queue: str = "default", name: str = "examples.add") -> str:
    app.records.add(task_id, name=name, queue=queue, priority=5)
    return task_id


def end(app: CeleriacApp, task_id: str = "one", state: str = "SUCCESS", value: object = 5) -> None:
    app.records.store(task_id, state, result=StoredResult(json.dumps({"status": state, "result": value}), 60))


def views(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Ids and data of a stream's events."""
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    return [(each.last_id, json.loads(each.data)) for each in messages(response) if each.data is not None]


def messages(response: httpx.Response) -> list[Message]:
    return list(read([response.content]))


# One task


@pytest.mark.parametrize("how", ["events", "wait"])
def test_no_end_is_missed_however_close_to_the_beginning_it_comes(app: CeleriacApp, how: str):
    """Each round has a reader that begins, and listeners that come before, while and after their tasks run."""
    seed = int(os.environ.get("CELERIAC_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CELERIAC_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    dice = random.Random(seed)
    app.records.get("warm up")

    def work(task_ids: list[str], pauses: list[float]) -> None:
        for task_id, pause in zip(task_ids, pauses, strict=True):
            time.sleep(pause)
            app.records.begin(task_id, None, retries=0, worker="w", started=None)
            end(app, task_id, "PROGRESS", {"current": 1})
            end(app, task_id, "FAILURE" if task_id.endswith("3") else "SUCCESS")

    async def follow(http: httpx.AsyncClient, task_id: str, pause: float) -> str:
        await asyncio.sleep(pause)
        if how == "wait":
            return str((await http.get(f"/tasks/{task_id}", params={"wait": "50s"})).json()["state"])
        shown = views(await http.get(f"/tasks/{task_id}/events"))
        assert [task["ready"] for _, task in shown] == [False] * (len(shown) - 1) + [True]
        assert len({event for event, _ in shown}) == len(shown)
        return str(shown[-1][1]["state"])

    async def race(number: int) -> None:
        task_ids = [add(app, f"{number}-{each}") for each in range(8)]
        worker = threading.Thread(target=work, args=(task_ids, [dice.uniform(0, 0.004) for _ in task_ids]))
        async with client_of(app) as http:
            following = [follow(http, task_id, dice.uniform(0, 0.02)) for task_id in task_ids]
            worker.start()
            states = await asyncio.gather(*following)
        worker.join()
        assert states == ["FAILURE" if task_id.endswith("3") else "SUCCESS" for task_id in task_ids]

    for number in range(RACES):
        run(race(number))


def test_many_changes_in_a_short_time_are_one_event(app: CeleriacApp):
    async def follow() -> list[int]:
        add(app)
        async with app.task_events.watch("one") as watch:
            seen = []
            for number in range(500):
                end(app, "one", "PROGRESS", {"current": number})
            while not seen or seen[-1] != 499:
                record = await watch.next()
                assert record is not None
                seen.append((record.progress or {})["current"])
        await app.line.close()
        return seen

    seen = run(follow())
    assert seen == sorted(seen)
    assert len(seen) < 50, "the event loop was busy meanwhile"


def test_the_first_event_is_the_task_as_it_is_and_one_that_has_ended_is_all(app: CeleriacApp):
    async def follow() -> list[list[tuple[str, dict[str, Any]]]]:
        async with client_of(app) as http:
            end(app, add(app))
            whole = await http.get("/tasks/one/events")
            assert (whole.headers["Cache-Control"], whole.headers["X-Accel-Buffering"]) == ("no-cache", "no")
            assert "Content-Length" not in whole.headers
            plain = await http.get("/tasks/one")
            assert views(whole)[0][1] == plain.json()
            return [views(whole)]

    (((event, task),),) = run(follow())
    assert (task["state"], task["result"], event) == ("SUCCESS", 5, app.redis.hget("celeriac:task:one", "event"))


def test_who_has_had_the_last_event_is_told_that_there_are_no_more_and_who_has_not_gets_it(app: CeleriacApp):
    async def ask() -> list[tuple[int, int]]:
        async with client_of(app) as http:
            known = [app.redis.hget("celeriac:task:one", "event") for _ in range(1) if add(app)]
            end(app)
            known += [app.redis.hget("celeriac:task:one", "event"), "1-0", "99999999999999-0"]
            answers = [await http.get("/tasks/one/events", headers={"Last-Event-ID": str(each)}) for each in known]
            return [(answer.status_code, len(messages(answer))) for answer in answers]

    assert run(ask()) == [(200, 1), (204, 0), (200, 1), (200, 1)]


def test_a_task_that_is_tried_again_has_a_new_end_for_who_has_had_the_first(app: CeleriacApp):
    async def follow() -> list[str]:
        async with client_of(app) as http:
            end(app, add(app), "FAILURE")
            ((event, _),) = views(await http.get("/tasks/one/events"))
            app.redis.delete("celeriac:task:one")  # as `retry.lua` does before it writes the record anew
            add(app)
            following = asyncio.create_task(http.get("/tasks/one/events", headers={"Last-Event-ID": event}))
            await asyncio.sleep(0.1)
            end(app)
            return [task["state"] for _, task in views(await following)]

    assert run(follow()) == ["PENDING", "SUCCESS"]


def test_a_reconnect_gets_what_it_has_missed_also_where_the_stream_has_forgotten_it(app: CeleriacApp):
    async def follow() -> list[str]:
        async with client_of(app) as http:
            known = str(app.redis.hget("celeriac:task:" + add(app), "event"))
            end(app, "one", "PROGRESS", {"current": 7})
            app.redis.delete(app.keys.events)
            following = asyncio.create_task(http.get("/tasks/one/events", headers={"Last-Event-ID": known}))
            await asyncio.sleep(0.2)
            end(app)
            return [task["state"] for _, task in views(await following)]

    assert run(follow()) == ["PROGRESS", "SUCCESS"]


def test_who_is_up_to_date_hears_of_the_next_change_first(app: CeleriacApp):
    async def follow() -> list[Message]:
        async with client_of(app) as http:
            known = str(app.redis.hget("celeriac:task:" + add(app), "event"))
            following = asyncio.create_task(http.get("/tasks/one/events", headers={"Last-Event-ID": known}))
            await asyncio.sleep(0.2)
            end(app)
            return messages(await following)

    first, second = run(follow())
    assert (first.data, json.loads(str(second.data))["state"]) == (None, "SUCCESS")


@pytest.mark.parametrize(
    ("path", "headers", "status", "detail"),
    [
        ("/tasks/never/events", {}, 404, "no task 'never'"),
        ("/tasks/never?wait=1", {}, 404, "no task 'never'"),
        ("/tasks/one/events", {"Last-Event-ID": "x"}, 422, "Last-Event-ID: give the id of an event as it came"),
        ("/tasks/events", {"Last-Event-ID": "1-x"}, 422, "Last-Event-ID: give the id of an event as it came"),
        ("/tasks/events?state=DONE", {}, 422, "query.state: "),
        ("/tasks/events?queue=", {}, 422, "query.queue: "),
        ("/tasks/one?wait=61", {}, 422, "wait: give seconds from 0 to 60, such as 30s (got '61')"),
        ("/tasks/one?wait=60.1s", {}, 422, "wait: "),
        ("/tasks/one?wait=1m", {}, 422, "wait: "),
        ("/tasks/one?wait=-1", {}, 422, "wait: "),
        ("/tasks/one?wait=", {}, 422, "wait: "),
        ("/tasks/one?wait=inf", {}, 422, "wait: "),
    ],
)
def test_a_wrong_question_is_refused(app: CeleriacApp, path: str, headers: dict[str, str], status: int, detail: str):
    async def ask() -> httpx.Response:
        async with client_of(app) as http:
            return await http.get(path, headers=headers)

    answer = run(ask())
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize("path", ["/tasks/one/events", "/tasks/events", "/tasks/one?wait=5s"])
def test_where_redis_is_away_nobody_can_begin_to_listen(make_app: MakeApp, path: str):
    app = make_app(redis_url=f"redis://127.0.0.1:{free_port()}/0", workloads=("workloads.examples",))

    async def ask() -> list[httpx.Response]:
        async with client_of(app) as http:
            return [await http.get(path) for _ in range(2)]

    start = time.monotonic()
    for answer in run(ask()):
        assert (answer.status_code, answer.json()["detail"]) == (503, "Redis cannot be reached; try again later")
    assert time.monotonic() - start < 5


def test_a_traceback_is_shown_to_administrators_only(app: CeleriacApp):
    async def ask(*scopes: Scope) -> Any:
        async with client_of(app, scopes=frozenset(scopes)) as http:
            ((_, task),) = views(await http.get("/tasks/one/events"))
            return task.get("traceback")

    value = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    app.records.store(add(app), "FAILURE", result=StoredResult(json.dumps({"result": value, "traceback": "code"}), 60))
    assert (run(ask(Scope.READ)), run(ask(Scope.READ, Scope.ADMIN))) == (None, "code")


@pytest.mark.parametrize(("wait", "least"), [("0.3", 0.3), ("0.3s", 0.3), ("0", 0), ("0s", 0)])
def test_a_wait_ends_when_its_time_is_up(app: CeleriacApp, wait: str, least: float):
    async def ask() -> dict[str, Any]:
        async with client_of(app) as http:
            return dict((await http.get("/tasks/one", params={"wait": wait})).json())

    start = time.monotonic()
    add(app)
    assert run(ask())["state"] == "PENDING"
    assert least <= time.monotonic() - start < least + 5


def test_a_wait_does_not_end_with_progress(app: CeleriacApp):
    async def ask() -> str:
        async with client_of(app) as http:
            add(app)
            waiting = asyncio.create_task(http.get("/tasks/one", params={"wait": "30"}))
            for number in range(5):
                await asyncio.sleep(0.05)
                end(app, "one", "PROGRESS", {"current": number})
            end(app, "one", "RETRY")
            await asyncio.sleep(0.1)
            assert not waiting.done()
            end(app, "one", "REVOKED")
            return str((await waiting).json()["state"])

    assert run(ask()) == "REVOKED"


def test_a_record_that_expires_ends_the_stream(app: CeleriacApp):
    async def follow() -> list[str]:
        async with client_of(app) as http:
            following = asyncio.create_task(http.get(f"/tasks/{add(app)}/events"))
            await asyncio.sleep(0.2)
            app.redis.delete("celeriac:task:one")
            app.redis.xadd(app.keys.events, {"id": "one", "state": "PENDING", "queue": "q", "name": "n"})
            return [task["state"] for _, task in views(await following)]

    assert run(follow()) == ["PENDING"]


def test_when_the_process_ends_all_streams_do_and_waits_say_what_is_known(app: CeleriacApp):
    async def follow() -> tuple[list[httpx.Response], httpx.Response]:
        async with client_of(app) as http:
            add(app)
            paths = ["/tasks/one/events", "/tasks/events", "/tasks/one?wait=60s"]
            following = [asyncio.create_task(http.get(path)) for path in paths]
            await asyncio.sleep(0.3)
            app.task_events.close()
            return [await each for each in following], await http.get(paths[0])

    (one, all_, waited), late = run(follow())
    assert [task["state"] for _, task in views(one)] == ["PENDING"]
    assert [message.data for message in messages(all_)] == [None]
    assert (waited.status_code, waited.json()["state"]) == (200, "PENDING")
    assert (late.status_code, late.headers["Retry-After"]) == (503, "1")


def test_more_listeners_than_may_be_are_refused_and_told_when_to_come_again(redis_url: str, make_app: MakeApp):
    app = make_app(redis_url=redis_url, workloads=("workloads.examples",), api={"max_listeners": 2})

    async def follow() -> list[tuple[int, str | None]]:
        async with client_of(app) as http:
            add(app)
            held = [asyncio.create_task(http.get(path)) for path in ("/tasks/one/events", "/tasks/one?wait=9s")]
            await asyncio.sleep(0.3)
            refused = [await http.get(path) for path in ("/tasks/one/events", "/tasks/events", "/tasks/one?wait=1")]
            plain = await http.get("/tasks/one?wait=0")
            end(app)
            freed = [await each for each in held] + [await http.get("/tasks/one/events")]
            assert "2 requests follow tasks here already" in refused[0].json()["detail"]
            return [(each.status_code, each.headers.get("Retry-After")) for each in (*refused, plain, *freed)]

    assert run(follow()) == [(503, "5")] * 3 + [(200, None)] * 4


# What becomes of Redis


@pytest.mark.parametrize("how", ["events", "wait"])
def test_no_end_is_missed_while_redis_is_killed_and_restarted(make_app: MakeApp, how: str):
    """Some end before the kill, so close to it that nobody was told; some after, before anybody is connected again."""
    with RedisServer() as server:
        app = make_app(redis_url=server.url, workloads=("workloads.examples",))
        task_ids = [add(app, f"task-{number}") for number in range(60)]

        async def follow() -> list[str]:
            async with client_of(app) as http:
                suffix = "/events" if how == "events" else "?wait=55s"
                following = [asyncio.create_task(http.get(f"/tasks/{task_id}{suffix}")) for task_id in task_ids]
                await asyncio.sleep(1)
                await asyncio.to_thread(outage)
                answers = await asyncio.gather(*following)
            if how == "wait":
                return [str(answer.json()["state"]) for answer in answers]
            return [str(views(answer)[-1][1]["state"]) for answer in answers]

        def outage() -> None:
            for task_id in task_ids[:20]:
                end(app, task_id)
            server.kill()
            time.sleep(1)
            server.start()
            for task_id in task_ids[20:40]:
                end(app, task_id)
            time.sleep(2)
            for task_id in task_ids[40:]:
                end(app, task_id)

        assert run(follow()) == ["SUCCESS"] * 60


def test_listeners_go_on_when_all_connections_are_cut_again_and_again(app: CeleriacApp):
    async def follow() -> list[str]:
        async with client_of(app) as http:
            task_ids = [add(app, f"task-{number}") for number in range(30)]
            following = [asyncio.create_task(http.get(f"/tasks/{task_id}/events")) for task_id in task_ids]
            await asyncio.sleep(1)
            for task_id in task_ids:
                await asyncio.sleep(0.1)
                with redis.Redis.from_url(app.settings.redis_url.get_secret_value()) as other:
                    other.client_kill_filter(_type="normal", skipme=True)
                # What works on Redis loses its connection, too, and tries again as workers do.
                for _ in range(20):
                    try:
                        end(app, task_id)
                        break
                    except RedisConnectionError:
                        await asyncio.sleep(0.05)
            return [str(views(answer)[-1][1]["state"]) for answer in await asyncio.gather(*following)]

    assert run(follow()) == ["SUCCESS"] * 30


def test_a_redis_that_has_lost_its_data_is_followed_from_there(make_app: MakeApp):
    """Its events begin anew, below those that are known where its clock is behind."""
    with RedisServer() as server:
        app = make_app(redis_url=server.url, workloads=("workloads.examples",))
        add(app)
        app.redis.xadd(
            app.keys.events, {"id": "x", "state": "PENDING", "queue": "q", "name": "n"}, id="99999999999999-0"
        )

        async def follow() -> tuple[str, list[tuple[str, str] | None]]:
            async with client_of(app) as http, app.task_events.feed(TaskFilter()) as feed:
                following = asyncio.create_task(http.get("/tasks/one/events"))
                taking = asyncio.create_task(take(feed, 2))
                await asyncio.sleep(0.5)
                await asyncio.to_thread(lose)
                return str(views(await following)[-1][1]["state"]), await taking

        def lose() -> None:
            app.redis.flushall()
            server.kill()
            server.start()
            add(app)
            time.sleep(2)
            end(app)

        assert run(follow()) == ("SUCCESS", [None, ("one", "SUCCESS")])


def test_a_thousand_listeners_are_one_connection_to_redis_which_goes_with_the_last(
    app: CeleriacApp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub, "_LINGER_SECONDS", 1)

    async def until(condition: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(wait_for, condition, what)

    def readers() -> int:
        return sum(client["cmd"] == "xread" for client in app.redis.client_list())

    async def follow() -> None:
        async with client_of(app) as http:
            events = app.task_events
            following = [asyncio.create_task(http.get(f"/tasks/{add(app)}/events")) for _ in range(500)]
            following += [asyncio.create_task(http.get("/tasks/events")) for _ in range(500)]
            await until(lambda: events._listeners == 1000, "all to listen")
            await until(lambda: readers() == 1, "their one connection")
            for each in following:
                each.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await until(lambda: readers() == 1, "it to be kept: often there is another listener soon")
            await until(lambda: readers() == 0, "its end")

    run(follow())


# Many tasks


async def take(feed: Feed, count: int) -> list[tuple[str, str] | None]:
    """Task and state of so many events; None for a gap."""
    found: list[tuple[str, str] | None] = []
    while len(found) < count:
        found += [(each.task_id, each.state) if isinstance(each, TaskEvent) else None for each in await feed.next()]
    return found


def test_each_change_is_told_in_its_order_and_filtered(app: CeleriacApp):
    async def follow() -> list[list[tuple[str, str] | None]]:
        events = app.task_events
        chosen = [TaskFilter(), TaskFilter(queue="other"), TaskFilter(states=[TaskState.SUCCESS]), TaskFilter(name="n")]
        async with (
            events.feed(chosen[0]) as all_,
            events.feed(chosen[1]) as queue,
            events.feed(chosen[2]) as state,
            events.feed(chosen[3]) as name,
        ):
            add(app, "one")
            add(app, "two", queue="other")
            add(app, "three", name="n")
            for task_id in ("three", "two", "one"):
                end(app, task_id)
            taken = [await take(feed, count) for feed, count in ((all_, 6), (queue, 2), (state, 3), (name, 2))]
            assert {feed.after for feed in (all_, queue, state, name)} == {app.redis.hget("celeriac:task:one", "event")}
        await app.line.close()
        return taken

    all_, queue, state, name = run(follow())
    ended = [("three", "SUCCESS"), ("two", "SUCCESS"), ("one", "SUCCESS")]
    assert all_ == [("one", "PENDING"), ("two", "PENDING"), ("three", "PENDING"), *ended]
    assert queue == [("two", "PENDING"), ("two", "SUCCESS")]
    assert state == ended
    assert name == [("three", "PENDING"), ("three", "SUCCESS")]


def test_what_comes_while_older_events_are_read_is_told_once(app: CeleriacApp):
    async def follow() -> list[tuple[str, str] | None]:
        stop = threading.Event()

        def go_on() -> None:
            number = 2000
            while not stop.is_set():
                add(app, f"task-{number}")
                number += 1
            app.redis.set("added", number)

        for number in range(2000):
            add(app, f"task-{number}")
        first = str(app.redis.hget("celeriac:task:task-0", "event"))
        adding = threading.Thread(target=go_on)
        adding.start()
        async with app.task_events.feed(TaskFilter(), first) as feed:
            taken = await take(feed, 2500)
            stop.set()
            await asyncio.to_thread(adding.join)
            taken += await take(feed, int(app.redis.get("added")) - 1 - len(taken))
        await app.line.close()
        return taken

    taken = run(follow())
    assert taken == [(f"task-{number}", "PENDING") for number in range(1, len(taken) + 1)]


def test_a_listener_that_is_slow_keeps_little_and_reads_on_in_the_stream(app: CeleriacApp):
    async def follow() -> list[tuple[str, str] | None]:
        async with app.task_events.feed(TaskFilter()) as slow, app.task_events.feed(TaskFilter()) as quick:
            with app.redis.pipeline() as pipe:
                for number in range(5000):
                    fields = {"id": str(number), "state": "PENDING", "queue": "q", "name": "n"}
                    pipe.xadd(app.keys.events, fields)
                pipe.execute()
            assert len(await take(quick, 5000)) == 5000
            assert len(slow._waiting) <= 1000
            taken = await take(slow, 5000)
        await app.line.close()
        return taken

    assert run(follow()) == [(str(number), "PENDING") for number in range(5000)]


def test_a_gap_is_told_where_the_stream_does_not_reach_back(app: CeleriacApp):
    async def follow(after: str, count: int) -> list[tuple[str, str] | None]:
        async with app.task_events.feed(TaskFilter(), after) as feed:
            taken = await take(feed, count)
        await app.line.close()
        return taken

    events = [str(app.redis.hget(f"celeriac:task:{add(app, f'{number}')}", "event")) for number in range(6)]
    app.redis.xtrim(app.keys.events, minid=events[3], approximate=False)
    three, four, five = ((str(number), "PENDING") for number in (3, 4, 5))
    assert run(follow(events[1], 4)) == [None, three, four, five]
    assert run(follow(events[3], 2)) == [four, five]
    assert run(follow("99999999999999-0", 1)) == [None]


def test_a_stream_of_all_tasks_says_where_it_is_and_what_is_lost(app: CeleriacApp):
    async def follow() -> list[Message]:
        async with client_of(app) as http:
            add(app, "one")
            for _ in range(2):
                end(app, "one", "PROGRESS", {"current": 1})
            event = str(app.redis.hget("celeriac:task:one", "event"))
            app.redis.xtrim(app.keys.events, maxlen=1, approximate=False)
            following = asyncio.create_task(http.get("/tasks/events", headers={"Last-Event-ID": "1-0"}))
            await asyncio.sleep(0.3)
            app.task_events.close()
            found = messages(await following)
            assert found[-1].last_id == event
            return found

    begun, gap, event = run(follow())
    assert (begun.data, begun.last_id) == (None, "1-0")
    assert (gap.event, gap.data) == ("gap", "{}")
    task = json.loads(str(event.data))
    assert task.keys() == {"task_id", "name", "queue", "state", "at"}
    assert (task["task_id"], task["state"], event.event) == ("one", "PROGRESS", "message")


def test_the_stream_is_of_bounded_length(app: CeleriacApp):
    for turn in range(30):
        with app.redis.pipeline(transaction=False) as pipe:
            for number in range(500):
                fields = {"id": str(number), "state": "PENDING", "queue": "q", "name": "n"}
                pipe.xadd(app.keys.events, fields)
            pipe.execute()
        end(app, add(app, f"task-{turn}"))
    assert 10_000 <= app.redis.xlen(app.keys.events) < 10_500


def test_a_stream_with_what_nobody_understands_is_read_on(app: CeleriacApp):
    async def follow() -> list[tuple[str, str] | None]:
        async with app.task_events.feed(TaskFilter()) as feed:
            app.redis.xadd(app.keys.events, {"anything": "else"})
            add(app)
            taken = await take(feed, 1)
        await app.line.close()
        return taken

    assert run(follow()) == [("one", "PENDING")]


def test_after_the_end_nobody_listens(app: CeleriacApp):
    async def ask() -> None:
        app.task_events.close()
        with pytest.raises(Unavailable, match="this API process ends"):
            async with app.task_events.watch("one"):
                pass

    run(ask())
