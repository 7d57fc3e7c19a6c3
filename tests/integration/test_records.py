"""Records and messages in Redis: what a submit writes, what outlives what, and what comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from celery.app.task import Context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac import CeleriacApp, Conflict, InvalidInput, NotFound, Unavailable
from celeriac.broker.leases import Delivery, Leases
from celeriac.broker.messages import QUEUE_PROPERTY
from celeriac.broker.publication import Publication
from celeriac.publishing import TaskRequest, cancel, retry, submit
from celeriac.publishing.publisher import Publisher
from celeriac.results import Records, TaskState
from celeriac.results.records import StoredResult
from tests.platform import wait_for
from tests.servers import free_port

UNFINISHED, FINISHED = 7 * 86400, 3600

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=5), parts, max_size=4),
    max_leaves=15,
)


@pytest.fixture
def app(redis_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    return make_app(redis_url=redis_url, workloads=("workloads.examples",))


@pytest.fixture
def records(app: CeleriacApp) -> Records:
    return app.records


def created(records: Records, task_id: str = "one") -> str:
    records.add(task_id, name="examples.add", queue="default", priority=5)
    return task_id


def delivered(app: CeleriacApp, task_id: str = "one") -> Delivery:
    """A delivery of a message of a task, leased; there may be several."""
    headers = {"id": task_id, "task": "examples.add"}
    raw = json.dumps({"body": "", "headers": headers, "properties": {"delivery_info": {}}})
    app.leases.publish(Publication("default", raw, waiting_id=task_id))
    _, tag, _, _ = app.leases.claim(["default"], 1)
    return Delivery("default", int(tag))


def lose(app: CeleriacApp, delivery: Delivery) -> None:
    """Give a delivery's message to another worker, as a keeper and a claim would when its lease has ended."""
    app.leases.give_up(delivery, "its worker stopped renewing the lease")
    assert app.leases.claim(["default"], 1)


def begin(app: CeleriacApp, delivery: Delivery | None, task_id: str = "one", *, retries: int = 0) -> str:
    return app.records.begin(task_id, delivery, retries=retries, worker="w", started=result("STARTED"))


def result(state: str, value: object = None) -> StoredResult:
    return StoredResult(json.dumps({"status": state, "result": value}), FINISHED)


def stored(app: CeleriacApp, task_id: str = "one") -> dict[str, Any] | None:
    """What `AsyncResult` finds."""
    text = app.redis.get(f"celery-task-meta-{task_id}")
    return json.loads(text) if text else None


def everything(app: CeleriacApp, task_id: str = "one") -> tuple[dict[str, str], dict[str, Any] | None, set[str]]:
    """The record, the result, and which deliveries count as started."""
    return app.redis.hgetall(f"celeriac:task:{task_id}"), stored(app, task_id), app.redis.smembers("celeriac:started")


def arrives_cancelled(app: CeleriacApp, task_id: str) -> bool:
    """Whether a message of a task, when it is claimed now, comes with the word that it is cancelled."""
    raw = json.dumps({"body": "", "headers": {"id": task_id}, "properties": {"delivery_info": {}}})
    app.leases.publish(Publication("probes", raw, waiting_id=task_id))
    _, _, revoked, _ = app.leases.claim(["probes"], 1, no_ack=["probes"])
    return bool(revoked)


def short_lived(app: CeleriacApp, *, expires_seconds: int = 1, unfinished_expires_seconds: int = 1) -> Records:
    return Records(
        app.redis,
        app.keys,
        expires_seconds=expires_seconds,
        unfinished_expires_seconds=unfinished_expires_seconds,
    )


def time_left(app: CeleriacApp, task_id: str) -> int:
    return int(app.redis.ttl(f"celeriac:task:{task_id}"))


def messages(app: CeleriacApp, key: str) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in app.redis.lrange(key, 0, -1)]


def arguments(message: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    assert message["properties"]["body_encoding"] == "base64"
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    return args, kwargs


def test_a_new_record_says_what_was_submitted(records: Records):
    created(records)
    record = records.get("one")
    assert record is not None
    assert (record.name, record.queue, record.priority, record.mode) == ("examples.add", "default", 5, "celery")
    assert (record.state, record.retries, record.started_at) == (TaskState.PENDING, 0, None)
    assert records.state("one") is TaskState.PENDING


def test_an_id_that_was_never_submitted_is_not_known(records: Records):
    assert records.get("never") is None
    assert records.state("never") is None
    assert records.store("never", "SUCCESS", result=result("SUCCESS", 3)) == "stored"
    assert records.get("never") is None, "a report does not make a record"


def test_a_record_is_kept_a_week_until_its_task_has_ended_and_an_hour_from_then(app: CeleriacApp, records: Records):
    created(records)
    assert UNFINISHED - 60 < time_left(app, "one") <= UNFINISHED
    begin(app, delivered(app))
    assert UNFINISHED - 60 < time_left(app, "one") <= UNFINISHED
    records.store("one", "SUCCESS", worker="w", retries=2)
    assert FINISHED - 60 < time_left(app, "one") <= FINISHED
    record = records.get("one")
    assert record is not None
    assert (record.worker, record.retries) == ("w", 2)
    assert record.submitted_at <= str(record.started_at) <= str(record.finished_at)


def test_a_record_expires(app: CeleriacApp):
    records = short_lived(app, unfinished_expires_seconds=UNFINISHED)
    created(records)
    records.store("one", "FAILURE")
    wait_for(lambda: records.get("one") is None, "the record to expire", 5)


@pytest.mark.parametrize("report", ["STARTED", "RETRY", "SUCCESS", "FAILURE"])
def test_a_cancelled_task_stays_so_whatever_a_worker_reports(app: CeleriacApp, records: Records, report: str):
    created(records)
    assert records.revoke("one") is TaskState.PENDING
    app.backend.store_result("one", {"any": "thing"}, report)
    record = records.get("one")
    assert record is not None
    assert (record.state, record.result, record.error) == (TaskState.REVOKED, None, None)
    assert records.store("one", report) == "ended"
    assert records.state("one") is TaskState.REVOKED
    assert arrives_cancelled(app, "one")


@pytest.mark.parametrize("second", ["STARTED", "RETRY", "FAILURE", "SUCCESS"])
def test_a_success_stands_when_its_message_is_delivered_again(app: CeleriacApp, records: Records, second: str):
    created(records)
    app.backend.store_result("one", "first", "SUCCESS")
    finished = records.get("one")
    app.backend.store_result("one", ValueError("second") if second == "FAILURE" else "second", second)
    assert records.get("one") == finished
    assert finished is not None
    assert finished.result == "first"


def test_a_failure_gives_way_to_a_later_success(app: CeleriacApp, records: Records):
    created(records)
    app.backend.store_result("one", ValueError("away"), "FAILURE")
    failed = records.get("one")
    assert failed is not None
    assert failed.error == "ValueError: away"
    app.backend.store_result("one", 3, "SUCCESS")
    record = records.get("one")
    assert record is not None
    assert (record.state, record.result, record.error) == (TaskState.SUCCESS, 3, None)


@pytest.mark.parametrize("ends", ["SUCCESS", "FAILURE"])
def test_the_end_of_a_task_that_keeps_no_result_is_recorded(app: CeleriacApp, records: Records, ends: str):
    created(records)
    if ends == "SUCCESS":
        app.backend.mark_as_done("one", 3, store_result=False)
    else:
        app.backend.mark_as_failure("one", ValueError("away"), store_result=False)
    assert records.state("one") == ends
    assert app.redis.get("celery-task-meta-one") is None


def test_what_is_not_known_or_has_ended_cannot_be_cancelled(app: CeleriacApp, records: Records):
    assert records.revoke("never") is None
    with pytest.raises(NotFound, match="no task 'never'"):
        cancel(app, "never")
    created(records)
    records.store("one", "SUCCESS")
    assert records.revoke("one") is TaskState.SUCCESS
    assert not arrives_cancelled(app, "one")
    with pytest.raises(Conflict, match="has already finished"):
        cancel(app, "one")


def test_cancelling_twice_is_no_error_and_tells_the_workers_again(
    app: CeleriacApp, records: Records, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    created(records)

    def fail(_task_ids: list[str]) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(app.control, "end", fail)
    with pytest.raises(Unavailable, match="cancel it again"):
        cancel(app, "one")
    monkeypatch.setattr(app.control, "end", told.extend)
    assert cancel(app, "one").state is TaskState.REVOKED
    assert told == ["one"]


def test_a_cancellation_is_remembered_as_long_as_the_record(app: CeleriacApp):
    records = short_lived(app)
    records.revoke(created(records))
    assert arrives_cancelled(app, "one")
    wait_for(lambda: not arrives_cancelled(app, "one"), "the cancellation to expire", 5)
    records.revoke(created(records, "two"))
    assert app.redis.zrange("celeriac:revoked", 0, -1) == ["two"], "what has expired is swept by the next"


# The start of a task: `begin`


def test_a_delivery_that_may_start_is_recorded_with_its_worker_and_counts_as_started(
    app: CeleriacApp, records: Records
):
    created(records)
    delivery = delivered(app)
    assert begin(app, delivery, retries=2) == "run"
    record = records.get("one")
    assert record is not None
    assert (record.state, record.worker, record.retries) == (TaskState.STARTED, "w", 2)
    assert record.submitted_at <= str(record.started_at)
    assert stored(app) == {"status": "STARTED", "result": None}
    assert app.redis.smembers("celeriac:started") == {str(delivery.tag)}


def test_the_start_of_a_task_that_keeps_no_result_stores_none(app: CeleriacApp, records: Records):
    created(records)
    assert records.begin("one", delivered(app), retries=0, worker="w", started=None) == "run"
    assert records.state("one") is TaskState.STARTED
    assert stored(app) is None


def test_a_started_result_without_an_expiry_is_kept_as_long_as_the_record(app: CeleriacApp, records: Records):
    created(records)
    records.begin("one", delivered(app), retries=0, worker="w", started=StoredResult("{}", None))
    assert UNFINISHED - 60 < app.redis.ttl("celery-task-meta-one") <= UNFINISHED


def test_whoever_waits_for_a_result_is_told_of_the_start(app: CeleriacApp, records: Records):
    created(records)
    with app.redis.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("celery-task-meta-one")
        channel.get_message(timeout=5)
        begin(app, delivered(app))
        message = channel.get_message(timeout=5)
    assert message is not None
    assert json.loads(message["data"])["status"] == "STARTED"


def test_a_delivery_whose_lease_was_given_to_another_may_not_start(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    lose(app, delivery)
    before = everything(app)
    assert begin(app, delivery) == "lost"
    assert everything(app) == before, "nothing is written"


def test_a_delivery_whose_message_is_back_in_the_queue_may_not_start(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    app.leases.release(delivery)
    assert begin(app, delivery) == "lost"


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_task_that_has_come_to_an_end_does_not_start_again(app: CeleriacApp, records: Records, end: str):
    created(records)
    records.store("one", end, result=result(end))
    before = everything(app)
    assert begin(app, delivered(app)) == end
    assert everything(app) == before
    assert begin(app, None) == end


def test_a_later_try_supersedes_the_message_of_an_earlier_one(app: CeleriacApp, records: Records):
    created(records)
    first = delivered(app)
    begin(app, first)
    assert records.store("one", "RETRY", delivery=first, next_try=1, result=result("RETRY")) == "stored"
    lose(app, first)  # its worker was killed between the record and its acknowledgement
    again = delivered(app)
    before = everything(app)
    assert begin(app, again, retries=0) == "superseded"
    assert everything(app) == before
    assert begin(app, again, retries=1) == "run"
    assert records.store("one", "RETRY", delivery=again, retries=1, next_try=2) == "stored"
    assert begin(app, delivered(app), retries=1) == "superseded"


def test_of_two_messages_of_a_task_only_one_runs_at_a_time(app: CeleriacApp, records: Records):
    created(records)
    first, second = delivered(app), delivered(app)
    assert begin(app, first) == "run"
    before = everything(app)
    assert begin(app, second) == "duplicate"
    assert everything(app) == before
    assert begin(app, first) == "run", "the one that runs may ask again, as when the answer was lost"


def test_the_next_try_may_start_while_the_one_before_is_still_to_be_acknowledged(app: CeleriacApp, records: Records):
    """A try publishes the next one before it reports that it has, and is acknowledged after that."""
    created(records)
    first, second = delivered(app), delivered(app)
    assert begin(app, first, retries=0) == "run"
    assert begin(app, second, retries=1) == "run"
    record = records.require("one")
    assert (record.state, record.retries) == (TaskState.STARTED, 1)
    assert begin(app, delivered(app), retries=1) == "duplicate"


@pytest.mark.parametrize("then", ["STARTED", "FAILURE", "SUCCESS"])
def test_a_try_that_reports_late_that_it_is_tried_again_overrides_no_later_one(
    app: CeleriacApp, records: Records, then: str
):
    created(records)
    first, second = delivered(app), delivered(app)
    begin(app, first, retries=0)
    begin(app, second, retries=1)
    if then != "STARTED":
        records.store("one", then, delivery=second, retries=1, result=result(then))
    before = everything(app)
    outcome = records.store("one", "RETRY", delivery=first, retries=0, result=result("RETRY"))
    assert outcome == ("ended" if then == "SUCCESS" else "superseded")
    assert everything(app) == before


def test_a_second_message_runs_where_the_first_was_returned_or_dropped_without_an_end(
    app: CeleriacApp, records: Records
):
    created(records)
    first, second, third = delivered(app), delivered(app), delivered(app)
    assert begin(app, first) == "run"
    app.leases.give_up(first, "its worker was killed")
    assert begin(app, second) == "run"
    app.leases.acknowledge([second])
    assert begin(app, third) == "run"


def test_a_message_without_a_lease_is_no_duplicate_but_ends_and_tries_count_for_it_too(
    app: CeleriacApp, records: Records
):
    created(records)
    assert begin(app, delivered(app)) == "run"
    assert begin(app, None) == "run"
    records.store("one", "RETRY", next_try=1)
    assert begin(app, None, retries=0) == "superseded"


def test_only_a_retry_supersedes_a_try_and_not_one_that_calls_its_own_state_so(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    app.tasks["examples.add"].update_state(task_id="one", state="RETRY", meta={"waits": "for a server"})
    assert records.state("one") is TaskState.RETRY
    app.leases.give_up(delivery, "its worker was killed")
    _, tag, _, _ = app.leases.claim(["default"], 1)
    assert begin(app, Delivery("default", int(tag))) == "run"
    app.backend.mark_as_retry("one", ValueError("away"))
    assert records.require("one").error == "ValueError: away"
    assert begin(app, Delivery("default", int(tag))) == "superseded"


def test_a_task_without_a_record_runs_and_gets_none(app: CeleriacApp, records: Records):
    delivery = delivered(app, "stranger")
    assert begin(app, delivery, "stranger") == "run"
    assert records.get("stranger") is None
    assert app.redis.smembers("celeriac:started") == {str(delivery.tag)}, "it still counts as started"


# Its end: `store`


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED"])
def test_record_and_result_change_together(app: CeleriacApp, records: Records, state: str):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    value = {"exc_type": "ValueError", "exc_message": ["away"]} if state in {"RETRY", "FAILURE"} else {"current": 1}
    assert records.store("one", state, delivery=delivery, worker="w2", result=result(state, value)) == "stored"
    record = records.get("one")
    assert record is not None
    assert (record.state, record.worker) == (state, "w2")
    assert (record.finished_at is not None) is record.state.ready
    assert stored(app) == {"status": state, "result": value}
    assert record.result == (value if state == "SUCCESS" else None)
    assert record.error == ("ValueError: away" if state in {"RETRY", "FAILURE"} else None)
    assert record.progress == (value if state == "PROGRESS" else None)


@pytest.mark.parametrize("before", ["STARTED", "SUCCESS", "REVOKED"])
def test_an_end_acknowledges_its_message_in_the_same_step(app: CeleriacApp, records: Records, before: str):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    records.store("one", before)
    outcome = records.store("one", "SUCCESS", delivery=delivery, result=result("SUCCESS"), acknowledges=True)
    assert outcome == ("stored" if before == "STARTED" else "ended")
    assert records.state("one") == ("SUCCESS" if before == "STARTED" else before)
    assert not app.redis.exists("celeriac:inflight", "celeriac:leases:default", "celeriac:started")
    assert records.store("one", "SUCCESS", delivery=delivery, acknowledges=True) == "lost", "once only"


def test_the_message_of_a_failure_is_kept_and_published_anew(app: CeleriacApp, records: Records):
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", priority=8, retries=0)
    (before,) = messages(app, "default:8")
    _, tag, _, _ = app.leases.claim(["default"], 1)
    delivery = Delivery("default", int(tag))
    assert begin(app, delivery) == "run"
    records.store("one", "FAILURE", delivery=delivery, retries=2, result=result("FAILURE"))
    app.leases.acknowledge([delivery])
    assert 0 < app.redis.ttl(app.keys.message("one")) <= FINISHED

    assert retry(app, "one").state is TaskState.PENDING
    (again,) = messages(app, "default:8")
    assert arguments(again) == ([1, 2], {})
    assert (again["headers"]["retries"], again["headers"]["x-delivery-count"]) == (0, 0)
    assert again["headers"]["celeriac_submitted_ms"] >= before["headers"]["celeriac_submitted_ms"]
    assert (stored(app), app.redis.exists(app.keys.message("one"))) == (None, 0)


@pytest.mark.parametrize("state", ["PENDING", "STARTED", "RETRY", "SUCCESS", "REVOKED"])
def test_only_a_failure_can_be_tried_again(app: CeleriacApp, records: Records, state: str):
    records.store(created(records), state)
    with pytest.raises(Conflict, match=f"task one is {state} .*; only one that has failed can be tried again"):
        retry(app, "one")


def test_a_failure_whose_message_is_not_kept_says_so_and_stays(app: CeleriacApp, records: Records):
    """It was acknowledged early, or is too large to be kept in case."""
    records.store(created(records), "FAILURE")
    huge = json.dumps({"body": "x" * 70_000, "headers": {"id": "two"}, "properties": {"delivery_info": {}}})
    app.leases.publish(Publication("default", huge, waiting_id=created(records, "two")))
    _, tag, _, _ = app.leases.claim(["default"], 1)
    records.store("two", "FAILURE", delivery=Delivery("default", int(tag)))
    for task_id in ("one", "two"):
        before = everything(app, task_id)
        with pytest.raises(Conflict, match="is not kept: it is larger than 64 KiB"):
            retry(app, task_id)
        assert everything(app, task_id) == before


def test_an_end_that_is_lost_acknowledges_nothing(app: CeleriacApp, records: Records):
    created(records)
    paused = delivered(app)
    begin(app, paused)
    lose(app, paused)
    in_flight = app.redis.hkeys("celeriac:inflight")
    assert records.store("one", "SUCCESS", delivery=paused, acknowledges=True) == "lost"
    assert app.redis.hkeys("celeriac:inflight") == app.redis.zrange("celeriac:leases:default", 0, -1) == in_flight


def test_an_end_without_a_lease_acknowledges_nothing(app: CeleriacApp, records: Records):
    created(records)
    delivered(app)
    assert records.store("one", "SUCCESS", acknowledges=True) == "stored"
    assert app.redis.hlen("celeriac:inflight") == 1


def test_a_result_is_refused_after_the_lease_was_lost(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    lose(app, delivery)
    before = everything(app)
    assert records.store("one", "SUCCESS", delivery=delivery, worker="w", result=result("SUCCESS", 3)) == "lost"
    assert everything(app) == before, "neither record nor result"


def test_a_result_is_refused_after_the_message_became_a_dead_letter(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    app.leases.bury(delivery, "rejected")
    assert records.store("one", "SUCCESS", delivery=delivery) == "lost"


def test_the_next_worker_stores_what_the_paused_one_could_not(app: CeleriacApp, records: Records):
    created(records)
    paused = delivered(app)
    begin(app, paused)
    app.leases.give_up(paused, "its worker stopped renewing the lease")
    _, tag, _, _ = app.leases.claim(["default"], 1)
    next_one = Delivery("default", int(tag))
    assert begin(app, next_one) == "run"
    assert records.store("one", "SUCCESS", delivery=next_one, result=result("SUCCESS", "next")) == "stored"
    assert records.store("one", "FAILURE", delivery=paused, result=result("FAILURE", "paused")) == "lost"
    assert records.require("one").result == "next"


@pytest.mark.parametrize(("end", "report"), [("SUCCESS", "REVOKED"), ("SUCCESS", "SUCCESS"), ("REVOKED", "SUCCESS")])
def test_an_end_that_stands_refuses_another(app: CeleriacApp, records: Records, end: str, report: str):
    created(records)
    assert records.store("one", end, result=result(end, "first")) == "stored"
    before = everything(app)
    assert records.store("one", report, result=result(report, "second")) == "ended"
    assert everything(app) == before


def test_a_cancellation_may_be_stored_twice_for_the_first_time_it_had_no_result_yet(app: CeleriacApp, records: Records):
    records.revoke(created(records))
    assert records.store("one", "REVOKED", result=result("REVOKED", "cancelled")) == "stored"
    assert stored(app) == {"status": "REVOKED", "result": "cancelled"}


def test_a_state_of_the_tasks_own_is_stored_for_celery_and_leaves_the_record(app: CeleriacApp, records: Records):
    created(records)
    delivery = delivered(app)
    begin(app, delivery)
    before = app.redis.hgetall("celeriac:task:one")
    assert records.store("one", "HALFWAY", delivery=delivery, result=result("HALFWAY", 50)) == "stored"
    assert stored(app) == {"status": "HALFWAY", "result": 50}
    assert app.redis.hgetall("celeriac:task:one") == before
    records.store("one", "SUCCESS", result=result("SUCCESS"))
    assert records.store("one", "HALFWAY", result=result("HALFWAY", 60)) == "ended"


def test_a_result_without_an_expiry_stays(app: CeleriacApp, records: Records):
    created(records)
    records.store("one", "SUCCESS", result=StoredResult("{}", None))
    assert app.redis.ttl("celery-task-meta-one") == -1
    records.store(created(records, "two"), "SUCCESS", result=StoredResult("{}", 30))
    assert 0 < app.redis.ttl("celery-task-meta-two") <= 30


def test_a_task_that_is_ended_unpublished_gets_a_record_unless_it_has_one(app: CeleriacApp, records: Records):
    records.add("one", name="examples.add", queue="default", priority=7)
    assert UNFINISHED - 60 < time_left(app, "one") <= UNFINISHED
    records.store("one", "FAILURE")
    before = everything(app)
    records.add("one", name="examples.other", queue="other", priority=5)
    assert everything(app) == before
    record = records.require("one")
    assert (record.name, record.queue, record.priority, record.state) == ("examples.add", "default", 7, "FAILURE")


def test_a_revocation_by_one_who_has_lost_the_lease_ends_no_chord(
    app: CeleriacApp, records: Records, monkeypatch: pytest.MonkeyPatch
):
    parts: list[str] = []
    monkeypatch.setattr(app.backend, "on_chord_part_return", lambda _request, state, _error: parts.append(state))
    created(records)
    delivery = delivered(app)
    properties = {"delivery_tag": str(delivery.tag), QUEUE_PROPERTY: "default"}
    request = Context({"id": "one", "task": "examples.add", "chord": {"task": "any"}, "properties": properties})
    assert app.backend.delivery(request) == delivery
    lose(app, delivery)
    app.backend.mark_as_revoked("one", "expired", request=request)
    assert (parts, records.state("one")) == ([], TaskState.PENDING)
    app.backend.mark_as_revoked("one", "expired", request=Context({"id": "one", "chord": {"task": "any"}}))
    assert (parts, records.state("one")) == (["REVOKED"], TaskState.REVOKED)


# Cancelling what waits: `revoke`


@pytest.mark.parametrize("state", ["PENDING", "RETRY"])
def test_what_waits_can_be_cancelled_alone(app: CeleriacApp, records: Records, state: str):
    created(records)
    if state == "RETRY":
        records.store("one", "RETRY")
    assert records.revoke("one", if_waiting=True) == state
    assert records.state("one") is TaskState.REVOKED
    assert arrives_cancelled(app, "one")


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS"])
def test_what_runs_is_left_alone_where_only_what_waits_is_to_be_cancelled(
    app: CeleriacApp, records: Records, state: str
):
    created(records)
    records.store("one", state)
    before = everything(app)
    assert records.revoke("one", if_waiting=True) == state
    assert everything(app) == before
    assert not arrives_cancelled(app, "one")
    assert records.revoke("one") == state
    assert records.state("one") is TaskState.REVOKED


def test_one_of_which_nothing_is_known_may_still_come_and_is_not_started(app: CeleriacApp, records: Records):
    assert records.revoke("later", if_waiting=True) is None
    assert arrives_cancelled(app, "later")
    assert records.get("later") is None
    assert records.revoke("unknown") is None
    assert not arrives_cancelled(app, "unknown"), "a plain cancellation asks for an id that is known"


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE"])
def test_an_end_cannot_be_cancelled_away(app: CeleriacApp, records: Records, end: str):
    created(records)
    records.store("one", end, result=result(end))
    before = everything(app)
    for if_waiting in (False, True):
        assert records.revoke("one", if_waiting=if_waiting) == end
    assert everything(app) == before


def test_a_delayed_task_that_is_cancelled_waits_no_longer(app: CeleriacApp, records: Records):
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", countdown=3600)
    assert app.redis.zrange("celeriac:delayed:default", 0, -1) == ["one"]
    records.revoke("one")
    assert app.redis.keys("celeriac:delayed*") == []


# What a submit writes


def test_a_task_whose_message_never_arrived_is_not_known(app: CeleriacApp, records: Records):
    """Its record is written in the same step as its message, so that neither is there without the other."""
    app.conf.broker_url = f"celeriac://127.0.0.1:{free_port()}/0"
    with pytest.raises(OperationalError):
        app.tasks["examples.add"].apply_async((1, 2), task_id="one", expires=60)
    assert records.get("one") is None
    assert app.redis.keys("*") == []


@pytest.mark.parametrize(
    ("sender", "method", "options"), [(Publisher, "send_blocking", {}), (Leases, "publish", {"expires": 60})]
)
def test_a_publish_whose_answer_was_lost_is_repeated_and_its_task_does_not_run_twice(
    app: CeleriacApp,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    sender: type,
    method: str,
    options: dict[str, Any],
):
    publish, answers = getattr(sender, method), iter(["lost"])

    def lose_the_first_answer(*args: Any, **kwargs: Any) -> None:
        publish(*args, **kwargs)
        if next(answers, None) == "lost":
            # A worker is quick: it has run the task before the publisher tries again.
            _, tag, _, _ = app.leases.claim(["default"], 1)
            delivery = Delivery("default", int(tag))
            assert begin(app, delivery) == "run"
            records.store("one", "SUCCESS", delivery=delivery, result=result("SUCCESS", 3), acknowledges=True)
            raise RedisConnectionError("Connection reset by peer")

    monkeypatch.setattr(sender, method, lose_the_first_answer)
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", **options)
    assert next(answers, None) is None
    assert records.require("one").result == 3
    assert app.leases.claim(["default"], 1) == []


def test_a_delayed_task_is_known_and_stays_cancelled_until_long_after_it_was_due(app: CeleriacApp, records: Records):
    month = 30 * 86400
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", countdown=month)
    assert app.redis.ttl("celeriac:task:one") > month + 86400
    records.revoke("one")
    assert FINISHED - 10 < app.redis.ttl("celeriac:task:one") <= FINISHED
    assert app.redis.zscore("celeriac:revoked", "one") > time.time() + month


def test_a_submit_is_refused_soon_where_redis_is_away(make_app: Callable[..., CeleriacApp]):
    app = make_app(redis_url=f"redis://127.0.0.1:{free_port()}/0", workloads=("workloads.examples",))
    start = time.monotonic()
    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        asyncio.run(submit(app, TaskRequest("examples.add", [1, 2])))
    assert time.monotonic() - start < 3


def test_code_and_api_write_the_same(app: CeleriacApp, records: Records):
    by_code = app.tasks["examples.add"].delay(1, y=2).id
    by_api = asyncio.run(submit(app, TaskRequest("examples.add", [1], {"y": 2}))).task_id
    one, other = (app.redis.hgetall(f"celeriac:task:{task_id}") for task_id in (by_code, by_api))
    index = app.keys.index("PENDING", "default")
    for task_id, fields in ((by_code, one), (by_api, other)):
        submitted = datetime.fromisoformat(fields.pop("submitted_at"))
        assert app.redis.zscore(index, task_id) == round(submitted.timestamp() * 1000)
    events = app.redis.xrange(app.keys.events)
    assert [fields.pop("event") for fields in (one, other)] == [event for event, _ in events]
    assert one == other
    later, earlier = messages(app, "default")
    assert arguments(earlier) == arguments(later) == ([1], {"y": 2})
    assert earlier["headers"].keys() == later["headers"].keys()
    assert earlier["properties"].keys() == later["properties"].keys()
    different = {name for name in earlier["headers"] if earlier["headers"][name] != later["headers"][name]}
    assert different <= {"id", "root_id", "celeriac_submitted_ms", "argsrepr"}


def test_an_explicit_0_stays_0_and_what_is_absent_is_5(app: CeleriacApp, records: Records):
    add = app.tasks["examples.add"]
    ids = {priority: add.apply_async((1, 2), priority=priority).id for priority in (0, None, 5, 9)}
    stored = {priority: records.get(task_id) for priority, task_id in ids.items()}
    assert {given: record.priority for given, record in stored.items() if record} == {0: 0, None: 5, 5: 5, 9: 9}
    for key, expected in {"default": [5, 5], "default:0": [0], "default:9": [9], "default:5": []}.items():
        assert [message["properties"]["priority"] for message in messages(app, key)] == expected


@pytest.mark.parametrize("priority", [-1, 10, True, 2.5, "5"])
def test_another_priority_is_refused_and_nothing_is_left(app: CeleriacApp, priority: object):
    with pytest.raises(InvalidInput, match="priority: a priority is a whole number from 0 to 9, 9 first"):
        app.tasks["examples.add"].apply_async((1, 2), priority=priority)
    assert app.redis.keys("*") == []


@pytest.mark.parametrize(
    ("options", "field"),
    [({"queue": "nowhere"}, "queue"), ({"countdown": 1, "eta": 0}, "countdown"), ({"priority": 10}, "priority")],
)
def test_a_wrong_submit_names_its_field_and_leaves_nothing(app: CeleriacApp, options: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(submit(app, TaskRequest("examples.add", [1, 2], **options)))
    assert caught.value.field == field
    assert app.redis.keys("*") == []


def test_a_message_says_when_it_was_submitted(app: CeleriacApp):
    before = time.time() * 1000
    task_id = app.tasks["examples.add"].delay(1, 2).id
    (message,) = messages(app, "default")
    headers = message["headers"]
    assert int(before) <= headers["celeriac_submitted_ms"] <= time.time() * 1000
    assert (headers["id"], headers["task"], headers["lang"], headers["retries"]) == (task_id, "examples.add", "py", 0)
    assert message["content-type"] == "application/json"
    assert message["properties"]["delivery_info"]["exchange"] == ""


def test_a_retry_goes_on_with_its_record_and_its_first_submit(app: CeleriacApp, records: Records):
    created(records)
    records.store("one", "RETRY", next_try=1)
    before = records.get("one")
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", retries=1)
    assert records.get("one") == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_whatever_is_json_comes_back_as_it_was(app: CeleriacApp, args: list[Any], kwargs: dict[str, Any]):
    app.redis.delete("default")
    for arguments_ in (([args], {}), ([], {"data": kwargs})):
        asyncio.run(submit(app, TaskRequest("examples.process_data", *arguments_)))
        message = messages(app, "default")[0]  # the newest
        assert arguments(message) == arguments_
