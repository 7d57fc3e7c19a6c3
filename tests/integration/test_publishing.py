"""Publishing from asyncio: the same messages as Celery's, in one round trip, once under one key."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import chain, chord, group
from celery._state import _task_stack
from celery.exceptions import QueueNotFound
from celery.signals import before_task_publish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import EncodeError, OperationalError
from redis.exceptions import RedisError

from celeriac import CeleriacApp
from celeriac.broker import Endpoint
from celeriac.broker.line import Line
from celeriac.broker.publication import Publication
from celeriac.errors import CeleriacError, Conflict, InvalidInput, TooMany, Unavailable
from celeriac.publishing import Submission, TaskRequest, submit, submit_all, submit_canvas
from celeriac.publishing.outbox import Outbox
from celeriac.results import TaskRecord, TaskState
from celeriac.workload import Queue
from tests.platform import Platform, wait_for
from tests.servers import RedisServer

MakeApp = Callable[..., CeleriacApp]

#: What differs between two messages of the same task and arguments.
OF_THE_MOMENT = ("celeriac_submitted_ms", "delivery_tag")

LATER = datetime(2030, 1, 1, tzinfo=UTC)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def app(make_app: MakeApp, redis_url: str) -> CeleriacApp:
    return make_app(redis_url=redis_url)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def messages(app: CeleriacApp, queue: str = "default") -> list[dict[str, Any]]:
    """What waits in all lists of a queue, the next one first."""
    raws = [raw for name in app.keys.ready_lists(queue) for raw in reversed(app.redis.lrange(name, 0, -1))]
    return [json.loads(raw) for raw in raws]


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is of the moment, its body decoded."""
    parts = {name: part for name, part in message.items() if name != "body"}
    for part in ("headers", "properties"):
        parts[part] = {name: value for name, value in parts[part].items() if name not in OF_THE_MOMENT}
    return parts | {"body": json.loads(base64.b64decode(message["body"]))}


def by_celery(app: CeleriacApp, name: str, *args: Any, **options: Any) -> dict[str, Any]:
    outbox = Outbox()
    app.tasks[name].apply_async(*args, producer=outbox.producer, **options)
    (publication,) = outbox.take()
    return plain(json.loads(publication.raw))


# The message


@given(
    items=st.lists(JSON, max_size=4),
    options=st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(0, 9),
            "queue": st.sampled_from(["default", "scheduled"]),
            "eta": st.integers(1, 10**8).map(lambda seconds: LATER + timedelta(seconds=seconds)),
        },
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_message_is_the_one_that_celery_writes(app: CeleriacApp, items: list[Any], options: dict[str, Any]):
    envelopes = app.publisher.envelopes
    ours = envelopes.write("examples.process_data", [items], task_id="one", **options)
    assert plain(json.loads(ours.raw)) == by_celery(app, "examples.process_data", [items], task_id="one", **options)
    assert ours.priority == options.get("priority", 5)
    assert (ours.due_ms is None) == ("eta" not in options)
    assert ours.companion is not None
    assert ours.companion.fields["queue"] == ours.queue == options.get("queue", "default")


@given(first=JSON, second=st.text(max_size=1500))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_named_arguments_and_long_ones_are_shown_as_celery_shows_them(app: CeleriacApp, first: Any, second: str):
    kwargs = {"to": second, "subject": first, "body": [second, {"a": [[first]]}]}
    ours = app.publisher.envelopes.write("examples.send_email", (), kwargs, task_id="one")
    assert plain(json.loads(ours.raw)) == by_celery(app, "examples.send_email", (), kwargs, task_id="one")


def test_who_listens_to_celerys_signals_sees_each_message(app: CeleriacApp):
    def mark(headers: dict[str, Any], **_: Any) -> None:
        headers["marked"] = headers["id"]

    app.publisher.envelopes.write("examples.add", [1, 2], task_id="zero")
    before_task_publish.connect(mark)
    try:
        written = [app.publisher.envelopes.write("examples.add", [1, 2], task_id=name) for name in ("one", "two")]
    finally:
        before_task_publish.disconnect(mark)
    assert [json.loads(each.raw)["headers"]["marked"] for each in written] == ["one", "two"]


@pytest.mark.parametrize("ordinary_code", [False, True])
def test_what_a_task_submits_names_it_as_its_parent(app: CeleriacApp, ordinary_code: bool):
    add = app.tasks["examples.add"]

    def publish(*args: int) -> str:
        if ordinary_code:
            return str(add.delay(*args).id)
        return asyncio.run(submit(app, TaskRequest("examples.add", list(args)))).task_id

    first = publish(0, 0)
    add.push_request(id="parent", root_id="root", called_directly=False, delivery_info={"priority": 5})
    _task_stack.push(add)
    try:
        child = publish(1, 2)
    finally:
        _task_stack.pop()
        add.pop_request()
    last = publish(3, 4)
    origins = []
    for message, task_id in zip(messages(app), (first, child, last), strict=True):
        record, headers = app.records.require(task_id), message["headers"]
        assert headers["root_id"] == (record.root_id or record.task_id)
        assert headers["parent_id"] == record.parent_id
        origins.append((record.parent_id, record.root_id))
    assert origins == [(None, None), ("parent", "root"), (None, None)]


def test_a_task_that_expires_or_waits_says_when(app: CeleriacApp):
    now = datetime.now(UTC)
    asyncio.run(submit(app, TaskRequest("examples.add", [1, 2], expires=60, countdown=30)))
    ((_, due),) = app.redis.zrange(app.keys.delayed("default"), 0, -1, withscores=True)
    assert now.timestamp() + 29 <= due / 1000 <= time.time() + 30
    (waiting,) = app.redis.hvals(app.keys.delayed_messages("default"))
    expires = datetime.fromisoformat(json.loads(waiting.partition("\n")[2])["headers"]["expires"])
    assert now + timedelta(seconds=59) <= expires <= datetime.now(UTC) + timedelta(seconds=60)


# Ordinary code


@given(
    items=st.lists(JSON, max_size=4),
    options=st.fixed_dictionaries(
        {}, optional={"priority": st.integers(0, 9), "queue": st.sampled_from(["default", "scheduled"])}
    ),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_apply_async_publishes_what_celery_would(app: CeleriacApp, items: list[Any], options: dict[str, Any]):
    app.redis.flushdb()
    app.tasks["examples.process_data"].apply_async([items], task_id="one", **options)
    (message,) = messages(app, options.get("queue", "default"))
    assert plain(message) == by_celery(app, "examples.process_data", [items], task_id="one", **options)
    assert app.records.require("one").priority == options.get("priority", 5)


def test_delay_takes_one_round_trip(app: CeleriacApp, redis_url: str):
    app.tasks["examples.add"].delay(0, 0)  # connects and loads the script
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        results = [app.tasks["examples.add"].delay(1, number) for number in range(50)]
        reads = client.info("stats")["total_reads_processed"] - before
    assert reads <= 51
    assert [message["headers"]["id"] for message in messages(app)][1:] == [result.id for result in results]
    assert results[0].ignored is False


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        ([1], {}, TypeError),
        ([1, 2, 3], {}, TypeError),
        ("ab", {}, TypeError),
        ([1, object()], {}, EncodeError),
        ([1, 2], {"priority": 10}, InvalidInput),
        ([1, 2], {"priority": True}, InvalidInput),
        ([1, 2], {"queue": "nowhere"}, QueueNotFound),
    ],
)
def test_a_wrong_call_of_apply_async_raises_and_publishes_nothing(
    app: CeleriacApp, args: Any, options: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        app.tasks["examples.add"].apply_async(args, **options)
    assert app.redis.dbsize() == 0


def test_delay_survives_a_restart_of_redis_and_says_when_there_is_none(make_app: MakeApp, own_redis: RedisServer):
    app = make_app(redis_url=own_redis.url)
    add = app.tasks["examples.add"]
    first = add.delay(1, 2)
    own_redis.kill()
    with pytest.raises(OperationalError):
        add.delay(3, 4)
    own_redis.start()
    second = add.delay(5, 6)
    assert [message["headers"]["id"] for message in messages(app)][-1] == second.id != first.id


# Submits


def test_a_submit_takes_one_round_trip_and_writes_message_and_record(app: CeleriacApp, redis_url: str):
    async def run() -> Submission:
        await submit(app, TaskRequest("examples.add", [0, 0]))  # connects and loads the script
        app.redis.flushdb()
        app.redis.config_resetstat()
        return await submit(app, TaskRequest("examples.add", [1, 2], priority=9))

    submission = asyncio.run(run())
    with redis.Redis.from_url(redis_url) as client:
        stats = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert not {"cmdstat_eval", "cmdstat_multi", "cmdstat_subscribe", "cmdstat_publish"} & stats.keys()
    (message,) = messages(app)
    assert plain(message)["body"][:2] == [[1, 2], {}]
    assert app.records.require(submission.task_id).priority == 9


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (TaskRequest("examples.nothing"), "name"),
        (TaskRequest("celery.backend_cleanup"), "name"),
        (TaskRequest("examples.add", [1]), "args"),
        (TaskRequest("examples.add", [1, 2], {"z": 3}), "args"),
        (TaskRequest("examples.add", [1, float("nan")]), "args"),
        (TaskRequest("examples.process_data", [["x" * 300_000]]), "args"),
        (TaskRequest("examples.add", [1, 2], queue="nowhere"), "queue"),
        (TaskRequest("examples.add", [1, 2], priority=10), "priority"),
        (TaskRequest("examples.add", [1, 2], countdown=1, eta=datetime.now(UTC)), "countdown"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(app: CeleriacApp, request_: TaskRequest, field: str):
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(submit(app, request_))
    assert caught.value.field == field
    assert app.redis.dbsize() == 0


def test_a_hundred_submits_under_one_key_are_one(app: CeleriacApp):
    async def run() -> list[Submission]:
        request = TaskRequest("examples.add", [1, 2])
        return await asyncio.gather(*(submit(app, request, idempotency_key="order 7") for _ in range(100)))

    ids = {submission.task_id for submission in asyncio.run(run())}
    assert [message["headers"]["id"] for message in messages(app)] == list(ids)
    (key,) = app.redis.keys("celeriac:idem:*")
    assert 86_000 < app.redis.ttl(key) <= 86_400


def test_a_key_that_was_used_for_something_else_is_refused(app: CeleriacApp):
    async def run() -> None:
        await submit(app, TaskRequest("examples.add", [1, 2]), idempotency_key="one")
        await submit(app, TaskRequest("examples.add", [1, 3]), idempotency_key="one")

    with pytest.raises(Conflict, match="used for another submit"):
        asyncio.run(run())
    assert len(messages(app)) == 1


def test_a_full_queue_takes_no_more_until_there_is_room(app: CeleriacApp):
    app.queue_limits = {"default": 3}
    request = TaskRequest("examples.add", [1, 2])

    async def run() -> list[Submission | CeleriacError]:
        await submit(app, TaskRequest("examples.add", [1, 2], countdown=60))
        outcomes = await submit_all(app, [request, TaskRequest("examples.add", [1, 2], priority=9), request])
        app.redis.rpop("default")
        return [*outcomes, await submit(app, request)]

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [Submission, Submission, TooMany, Submission]
    assert "3 messages" in str(outcomes[2])
    assert app.redis.exists(*(app.keys.task(each.task_id) for each in outcomes if isinstance(each, Submission))) == 3


def test_many_are_submitted_at_once_and_what_is_wrong_with_one_stops_no_other(app: CeleriacApp):
    requests = [TaskRequest("examples.add", [number, 0] if number % 10 else [number]) for number in range(1000)]
    outcomes = asyncio.run(submit_all(app, requests))
    assert [isinstance(each, InvalidInput) for each in outcomes] == [number % 10 == 0 for number in range(1000)]
    waiting = messages(app)
    assert [plain(message)["body"][0][0] for message in waiting] == [n for n in range(1000) if n % 10]
    assert [each.task_id for each in outcomes if isinstance(each, Submission)] == [
        message["headers"]["id"] for message in waiting
    ]


@pytest.mark.parametrize("kind", ["chain", "group", "chord"])
def test_a_canvas_from_asyncio_runs_like_any_other(platform: Platform, make_app: MakeApp, kind: str):
    platform.start_api()
    platform.start_worker("default")
    app = make_app(redis_url=platform.environment["REDIS_URL"])
    add, total = app.tasks["examples.add"], app.tasks["examples.process_data"]
    canvas = {
        "chain": chain(add.si(1, 2), add.s(3)),
        "group": group(add.si(1, 2), add.si(3, 4)),
        "chord": chord([add.si(1, 2), add.si(3, 4)], total.s()),
    }[kind]
    submission = asyncio.run(submit_canvas(app, canvas))
    results = {"chain": [3, 6], "group": [3, 7], "chord": [3, 7, {"processed": True, "count": 2}]}[kind]

    def ended() -> list[TaskRecord] | None:
        records = [app.records.require(key.rpartition(":")[2]) for key in app.redis.keys("celeriac:task:*")]
        done = [record for record in records if record.state is TaskState.SUCCESS]
        return done if len(done) == len(results) else None

    records = wait_for(ended, "all to end")
    assert sorted((record.result for record in records), key=str) == results
    assert kind == "group" or submission.task_id in {record.task_id for record in records}


# The connection


def line_to(server: RedisServer, **options: Any) -> Line:
    return Line(Endpoint.parse(server.url), **options)


def test_answers_come_to_who_asked(own_redis: RedisServer):
    async def run() -> None:
        line = line_to(own_redis)

        async def ask(number: int) -> None:
            if number % 7 == 0:
                with pytest.raises(RedisError, match="WRONGTYPE"):
                    await line.execute("INCR", "a list")
            elif number % 5 == 0:
                assert await line.execute_all([("ECHO", number), ("ECHO", f"{number}b")]) == [f"{number}", f"{number}b"]
            else:
                assert await line.execute("ECHO", number) == str(number)

        await line.execute("RPUSH", "a list", 1)
        await asyncio.gather(*(ask(number) for number in range(1000)))
        await line.close()

    asyncio.run(run())
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.info("stats")["total_connections_received"] <= 3


def test_who_gives_up_takes_nobodys_answer(own_redis: RedisServer):
    async def run() -> None:
        line = line_to(own_redis)
        await line.execute("PING")
        for number in range(100):
            asked = asyncio.create_task(line.execute("ECHO", "given up"))
            await asyncio.sleep(0)
            others = [asyncio.create_task(line.execute("ECHO", number)) for _ in range(3)]
            await asyncio.sleep(0)
            asked.cancel()
            assert await asyncio.gather(*others) == [str(number)] * 3

    asyncio.run(run())


def test_a_redis_that_is_back_is_used_again_at_once(own_redis: RedisServer, make_app: MakeApp):
    app = make_app(redis_url=own_redis.url)
    request = TaskRequest("examples.add", [1, 2])

    async def run() -> None:
        await submit(app, request)
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(Unavailable, match="Redis cannot be reached"):
                await submit(app, request)
        own_redis.start()
        app.redis.script_flush()
        outcomes = await submit_all(app, [request] * 300)
        assert all(isinstance(each, Submission) for each in outcomes)

    asyncio.run(run())
    assert app.redis.llen("default") >= 300


def test_a_redis_that_hangs_is_given_up_by_all_who_wait_and_used_again(own_redis: RedisServer):
    async def run() -> float:
        line = line_to(own_redis, timeout_seconds=0.5)
        process = (await line.execute("INFO", "server")).partition("process_id:")[2].split()[0]
        os.kill(int(process), signal.SIGSTOP)
        began = time.monotonic()
        outcomes = await asyncio.gather(*(line.execute("PING") for _ in range(50)), return_exceptions=True)
        seconds = time.monotonic() - began
        os.kill(int(process), signal.SIGCONT)
        assert all(isinstance(outcome, RedisError) for outcome in outcomes)
        assert await line.execute("ECHO", "back") == "back"
        return seconds

    assert 0.5 <= asyncio.run(run()) < 3


def test_a_message_without_a_limit_or_a_key_is_what_it_was(app: CeleriacApp):
    app.leases.publish(Publication("default", "raw"))
    assert app.redis.lrange("default", 0, -1) == ["raw"]


def test_a_queue_says_how_long_it_may_be():
    assert Queue("one", max_length=10).max_length == 10
    with pytest.raises(CeleriacError, match="max_length must be at least 1"):
        Queue("one", max_length=0)
