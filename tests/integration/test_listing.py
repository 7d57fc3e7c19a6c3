"""Lists of task records: what indexes and records agree on, pages, and the memory that is given back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.exceptions import OutOfMemoryError, ResponseError

from celeriac import CeleriacApp, InvalidInput
from celeriac.broker import Keys, scripts
from celeriac.broker.dead_letters import DeadLetters
from celeriac.broker.keeper import Keeper
from celeriac.broker.leases import Delivery, Leases
from celeriac.broker.publication import Publication
from celeriac.events.event import START, place
from celeriac.results import Listing, Records, Sweep, TaskFilter, TaskState
from celeriac.results.listing import WALKED
from celeriac.results.records import StoredResult
from tests.platform import wait_for
from tests.servers import RedisServer

QUEUES = ("alpha", "beta:1")
IDS = ("one", "two", "three")
EXAMPLES = int(os.environ.get("CELERIAC_TEST_EXAMPLES", "60"))


@pytest.fixture
def app(redis_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    return make_app(redis_url=redis_url, workloads=("workloads.examples",))


def add(app: CeleriacApp, task_id: str, *, queue: str = "default", name: str = "examples.add") -> str:
    app.records.add(task_id, name=name, queue=queue, priority=5)
    return task_id


def ids(app: CeleriacApp, chosen: TaskFilter | None = None, **options: Any) -> list[str]:
    return [record.task_id for record in app.listing.page(chosen, **options).records]


def pages(app: CeleriacApp, chosen: TaskFilter | None = None, *, limit: int) -> Iterator[list[str]]:
    cursor = None
    while True:
        page = app.listing.page(chosen, limit=limit, cursor=cursor)
        yield [record.task_id for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            return


def indexed(client: redis.Redis, keys: Keys) -> list[tuple[str, str]]:
    """Task id and index of every entry."""
    names = client.scan_iter(match=f"{keys.indexes}*")
    return sorted((task_id, name) for name in names for task_id in client.zrange(name, 0, -1))


class Indexes(RuleBasedStateMachine):
    """Whatever happens to tasks in whatever order, each record stands in its index, and nowhere else."""

    client: redis.Redis
    bytes_client: redis.Redis
    _prefixes = count()

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(f"example{next(self._prefixes)}:")
        self.leases = Leases(self.client, self.keys)
        self.letters = DeadLetters(self.bytes_client, self.keys)
        self.records = Records(self.client, self.keys, expires_seconds=60, unfinished_expires_seconds=60)
        self.listing = Listing(self.client, self.keys)
        self.sweep = Sweep(self.keys, expires_seconds=-60, unfinished_expires_seconds=-60)
        self.try_again = self.client.register_script(scripts.source("retry"))
        self.deliveries: list[tuple[str, Delivery]] = []
        #: Ids of records that have expired: entries of theirs may be left.
        self.expired: set[str] = set()
        #: The records as they were last seen.
        self.seen: dict[str, dict[str, str]] = {}

    def teardown(self) -> None:
        self.sweep(self.client)
        left = {task_id for task_id, _ in indexed(self.client, self.keys)}
        assert left == {task_id for task_id in IDS if self.records.state(task_id)}
        if keys := self.client.keys(f"{self.keys.prefix}*"):
            self.client.delete(*keys)

    @rule(task_id=st.sampled_from(IDS), queue=st.sampled_from(QUEUES), due=st.none() | st.just(10**14))
    def publish(self, task_id: str, queue: str, due: int | None) -> None:
        record = self.records.new(task_id, name="n", queue=queue, priority=5)
        raw = json.dumps({"headers": {"id": task_id, "task": "n"}, "properties": {}, "body": ""})
        self.leases.publish(Publication(queue, raw, due_ms=due, waiting_id=task_id, companion=record))

    @rule(task_id=st.sampled_from(IDS), queue=st.sampled_from((*QUEUES, "")))
    def add(self, task_id: str, queue: str) -> None:
        self.records.add(task_id, name="n", queue=queue, priority=5)

    @rule()
    def claim(self) -> None:
        answer = self.leases.claim(list(QUEUES), 3)
        for number, tag, _, raw in zip(answer[::4], answer[1::4], answer[2::4], answer[3::4], strict=True):
            task_id = json.loads(raw)["headers"]["id"]
            self.deliveries.append((task_id, Delivery(QUEUES[number - 1], int(tag))))

    @rule(place=st.integers(0, 3), retries=st.integers(0, 1))
    def begin(self, place: int, retries: int) -> None:
        if self.deliveries:
            task_id, delivery = self.deliveries[place % len(self.deliveries)]
            self.records.begin(task_id, delivery, retries=retries, worker="w", started=StoredResult("{}", 60))

    @rule(place=st.integers(0, 3), state=st.sampled_from([*TaskState, "HALFWAY"]), next_try=st.none() | st.just(1))
    def store(self, place: int, state: str, next_try: int | None) -> None:
        if self.deliveries:
            task_id, delivery = self.deliveries[place % len(self.deliveries)]
            ends = state == "SUCCESS"
            self.records.store(task_id, state, delivery=delivery, next_try=next_try, acknowledges=ends)

    @rule(task_id=st.sampled_from(IDS), state=st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "PROGRESS"]))
    def store_from_elsewhere(self, task_id: str, state: str) -> None:
        self.records.store(task_id, state, result=StoredResult("{}", 60))

    @rule(task_id=st.sampled_from(IDS), if_waiting=st.booleans())
    def revoke(self, task_id: str, if_waiting: bool) -> None:
        self.records.revoke(task_id, if_waiting=if_waiting)

    @rule(place=st.integers(0, 3))
    def bury(self, place: int) -> None:
        if self.deliveries:
            self.leases.bury(self.deliveries[place % len(self.deliveries)][1], "it was too much")

    @rule()
    def replay(self) -> None:
        for letter in self.letters.page(limit=1):
            task_id = str(letter.task_id)
            record = self.records.new(task_id, name="n", queue=letter.queue, priority=5)
            self.letters.replay(letter, record=record)

    @rule(task_id=st.sampled_from(IDS))
    def retry(self, task_id: str) -> None:
        kept = self.client.get(self.keys.message(task_id))
        if kept is not None:
            ready_list, raw = kept.split("\n", 1)
            queue = next(queue for queue in QUEUES if self.keys.ready(queue) == ready_list)
            record = self.records.new(task_id, name="n", queue=queue, priority=5)
            where = [self.keys.prefix, queue, ready_list, raw, self.keys.message(task_id), record.key]
            self.try_again(args=[*where, self.keys.result(task_id), *record.arguments()])

    @rule(task_id=st.sampled_from(IDS))
    def expire(self, task_id: str) -> None:
        self.client.delete(self.keys.task(task_id))
        self.expired.add(task_id)

    @rule()
    def sweep_all(self) -> None:
        assert not self.sweep(self.client)
        self.expired.clear()

    @invariant()
    def each_record_stands_in_its_index(self) -> None:
        entries = indexed(self.client, self.keys)
        for task_id in IDS:
            fields = self.client.hgetall(self.keys.task(task_id))
            mine = [index for known, index in entries if known == task_id]
            if fields:
                own = self.keys.index(fields["state"], fields["queue"])
                submitted = datetime.fromisoformat(fields["submitted_at"])
                assert own in mine
                assert self.client.zscore(own, task_id) == (submitted - _EPOCH) // timedelta(milliseconds=1)
                mine.remove(own)
            assert not mine or task_id in self.expired

    @invariant()
    def each_change_of_a_record_is_told_once(self) -> None:
        events = self.client.xrange(self.keys.events)
        for task_id in IDS:
            fields = self.client.hgetall(self.keys.task(task_id))
            told = [(event, said) for event, said in events if said["id"] == task_id]
            known = place(self.seen.get(task_id, {}).get("event", START))
            before = [event for event, _ in told if place(event) <= known]
            if fields and fields != self.seen.get(task_id):
                event, said = told[-1]
                assert (fields["event"], len(told) - len(before)) == (event, 1)
                assert said == {"id": task_id, "state": fields["state"], "queue": fields["queue"], "name": "n"}
            elif fields:
                assert len(told) == len(before)
            self.seen[task_id] = fields or self.seen.get(task_id, {})

    @rule(state=st.none() | st.sampled_from(list(TaskState)), queue=st.none() | st.sampled_from(QUEUES))
    def list(self, state: TaskState | None, queue: str | None) -> None:
        chosen = TaskFilter(states=[state] if state else TaskState, queue=queue)
        found, cursor = [], None
        for _ in range(len(IDS) * 3):
            page = self.listing.page(chosen, limit=1, cursor=cursor)
            found += page.records
            if (cursor := page.next_cursor) is None:
                break
        known = [record for task_id in IDS if (record := self.records.get(task_id))]
        expected = [r for r in known if state in {None, r.state} and queue in {None, r.queue}]
        expected.sort(key=lambda record: (record.submitted_at, record.task_id), reverse=True)
        assert [record.task_id for record in found] == [record.task_id for record in expected]


_EPOCH = datetime.fromtimestamp(0, UTC)


def test_indexes_and_records_agree_after_any_interleaving(redis_url: str):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, redis.Redis.from_url(redis_url) as other:
        machine = type("OnClient", (Indexes,), {"client": client, "bytes_client": other})
        checked = settings(
            max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=list(HealthCheck), print_blob=True
        )
        run_state_machine_as_test(machine, settings=checked)


def test_a_listing_is_newest_first_and_filtered(app: CeleriacApp):
    for task_id, queue in (("a", "default"), ("b", "data_sync"), ("c", "default"), ("d", "default")):
        add(app, task_id, queue=queue, name=f"tasks.{task_id}")
        time.sleep(0.002)
    app.records.store("c", "SUCCESS", result=StoredResult('{"result": 5}', 60))
    assert ids(app) == ["d", "c", "b", "a"]
    assert ids(app, TaskFilter(queue="default")) == ["d", "c", "a"]
    assert ids(app, TaskFilter(states=[TaskState.SUCCESS])) == ["c"]
    assert ids(app, TaskFilter(queue="default", states=[TaskState.PENDING])) == ["d", "a"]
    assert ids(app, TaskFilter(name="tasks.b")) == ["b"]
    assert ids(app, TaskFilter(queue="nowhere")) == ids(app, TaskFilter(name="none")) == []
    moment = datetime.fromisoformat(app.records.require("c").submitted_at)
    assert ids(app, TaskFilter(since=moment)) == ["d", "c"]
    assert ids(app, TaskFilter(until=moment)) == ["b", "a"]
    assert ids(app, TaskFilter(until=moment + timedelta(microseconds=1))) == ["c", "b", "a"]
    assert ids(app, TaskFilter(since=moment, until=moment)) == []


def test_a_listing_shows_errors_and_progress_and_no_results(app: CeleriacApp):
    for task_id, state, value in (
        ("failed", "FAILURE", {"exc_type": "ValueError", "exc_message": ["no"]}),
        ("running", "PROGRESS", {"current": 1}),
        ("done", "SUCCESS", 5),
    ):
        add(app, task_id)
        app.records.store(task_id, state, result=StoredResult(json.dumps({"result": value, "traceback": "T"}), 60))
    found = {record.task_id: record for record in app.listing.page().records}
    assert (found["failed"].error, found["running"].progress) == ("ValueError: no", {"current": 1})
    assert found["done"].result is None
    assert app.records.require("failed").traceback == "T"


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_pages_show_each_task_once_though_many_were_submitted_in_the_same_millisecond(app: CeleriacApp, limit: int):
    for number in range(40):
        queue = ("default", "data_sync")[number % 2]
        add(app, f"task-{number}", queue=queue)
        app.redis.zadd(app.keys.index("PENDING", queue), {f"task-{number}": number // 30})
    shown = [task_id for page in pages(app, limit=limit) for task_id in page]
    assert sorted(shown) == sorted(f"task-{number}" for number in range(40))
    assert {f"task-{number}" for number in range(30, 40)} == set(shown[:10])


def test_what_is_submitted_or_changes_between_two_pages_moves_nothing(app: CeleriacApp):
    for number in range(6):
        add(app, f"old-{number}")
        time.sleep(0.002)
    first = app.listing.page(limit=3)
    add(app, "new")
    app.records.store("old-5", "SUCCESS")
    app.records.store("old-3", "FAILURE")
    second = app.listing.page(limit=3, cursor=first.next_cursor)
    assert [r.task_id for r in (*first.records, *second.records)] == [f"old-{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert second.next_cursor is None


def test_a_rare_name_is_found_page_by_page(app: CeleriacApp):
    with app.redis.pipeline() as pipe:
        pipe.sadd(app.keys.queues, "default")
        for number in range(WALKED + 10):
            fields = {"state": "PENDING", "queue": "default", "name": "n" if number else "rare"}
            pipe.hset(app.keys.task(str(number)), mapping={**fields, "priority": 5, "mode": "m", "submitted_at": ""})
            pipe.zadd(app.keys.index("PENDING", "default"), {str(number): number})
        pipe.execute()
    assert list(pages(app, TaskFilter(name="rare"), limit=10)) == [[], ["0"]]


@pytest.mark.parametrize("cursor", ["", "x", "1", "1:", ":a", "9" * 16 + ":a", "-1:a"])
def test_what_is_no_cursor_is_refused(app: CeleriacApp, cursor: str):
    with pytest.raises(InvalidInput, match="cursor: give the next_cursor"):
        app.listing.page(cursor=cursor)


def test_a_listing_drops_entries_of_records_that_have_expired(app: CeleriacApp):
    add(app, "gone")
    add(app, "here")
    app.redis.delete(app.keys.task("gone"))
    assert ids(app) == ["here"]
    assert indexed(app.redis, app.keys) == [("here", app.keys.index("PENDING", "default"))]


def test_the_sweep_finds_what_has_expired_between_what_lives(app: CeleriacApp):
    """Of two that sweep one rests, so that Redis has this work once."""
    index, alive = app.keys.index("SUCCESS", "default"), range(0, 5000, 1700)
    app.redis.sadd(app.keys.queues, "default")
    app.redis.zadd(index, {str(number): number for number in range(5000)})
    for number in alive:
        app.redis.hset(app.keys.task(str(number)), mapping={"state": "SUCCESS", "queue": "default"})
    sweep, other = (Sweep(app.keys, expires_seconds=60, unfinished_expires_seconds=60) for _ in range(2))
    rounds = 1
    while sweep(app.redis):
        assert not other(app.redis)
        rounds += 1
    assert app.redis.zrange(index, 0, -1) == [str(number) for number in alive]
    assert rounds < 25


def test_the_sweep_leaves_what_cannot_have_expired_unseen(app: CeleriacApp):
    app.redis.sadd(app.keys.queues, "default")
    young = time.time() * 1000 - 50_000
    app.redis.zadd(app.keys.index("SUCCESS", "default"), {"young": young, "old": young - 20_000})
    app.redis.zadd(app.keys.index("PENDING", "default"), {"waits": young - 20_000})
    Sweep(app.keys, expires_seconds=60, unfinished_expires_seconds=100)(app.redis)
    assert [task_id for task_id, _ in indexed(app.redis, app.keys)] == ["waits", "young"]


def test_a_keeper_sweeps_and_goes_on_where_that_is_refused(app: CeleriacApp):
    refusals = iter([ResponseError("no such command")])

    def chore(client: redis.Redis) -> bool:
        for refusal in refusals:
            raise refusal
        return app.sweep(client)

    app.redis.sadd(app.keys.queues, "default")
    app.redis.zadd(app.keys.index("SUCCESS", "default"), {"gone": 1})
    keeper = Keeper(app.endpoint, app.keys, chore=chore)
    keeper.start()
    try:
        wait_for(lambda: not indexed(app.redis, app.keys), "the sweep")
    finally:
        keeper.stop()
        keeper.join(10)


def test_a_redis_whose_memory_is_full_still_records_the_end_of_tasks_and_is_swept(app: CeleriacApp):
    with RedisServer() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        records = Records(client, app.keys, expires_seconds=60, unfinished_expires_seconds=60)
        records.add("one", name="n", queue="default", priority=5)
        records.add("gone", name="n", queue="default", priority=5)
        client.delete(app.keys.task("gone"))
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            client.set("key", "value")
        assert records.begin("one", None, retries=0, worker="w", started=None) == "run"
        assert records.store("one", "SUCCESS") == "stored"
        told = [said["state"] for _, said in client.xrange(app.keys.events) if said["id"] == "one"]
        assert told == ["PENDING", "STARTED", "SUCCESS"]
        Sweep(app.keys, expires_seconds=-60, unfinished_expires_seconds=-60)(client)
        assert indexed(client, app.keys) == [("one", app.keys.index("SUCCESS", "default"))]


def test_a_record_says_what_it_belongs_to(app: CeleriacApp):
    task = app.tasks["examples.add"]
    slot = "nightly@2026-01-31T00:00:00+00:00"
    task.apply_async((1, 2), task_id="child", parent_id="parent", root_id="root", headers={"celeriac_slot": slot})
    task.apply_async((1, 2), task_id="alone")
    child, alone = app.records.require("child"), app.records.require("alone")
    assert (child.parent_id, child.root_id, child.slot) == ("parent", "root", slot)
    assert (alone.parent_id, alone.root_id, alone.slot) == (None, None, None)


def test_records_stay_within_their_budget(app: CeleriacApp):
    """A field too long, or one too many, makes Redis keep a hash in another way, of thrice the size."""
    worker = "default-4711@celeriac-worker-default-6c9f7d8b5-x2x4z"
    for number in range(1000):
        app.records.add(f"{number:036}", name="examples.add", queue="default", priority=5)
        app.records.begin(f"{number:036}", None, retries=0, worker=worker, started=None)
    used = app.redis.info("memory")["used_memory_dataset"]
    for number in range(1000):
        app.records.store(f"{number:036}", "SUCCESS", worker=worker)
    assert app.redis.info("memory")["used_memory_dataset"] - used < 200 * 1000
    key = app.keys.task(f"{0:036}")
    assert app.redis.object("encoding", key) in {"ziplist", "listpack"}
    assert app.redis.memory_usage(key) < 512
