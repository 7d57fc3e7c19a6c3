"""Records and messages in Redis: what a submit writes, what outlives what, and what comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from celeriac import CeleriacApp, Conflict, InvalidInput, NotFound, Unavailable
from celeriac.publishing import cancel, submit
from celeriac.results import Records, TaskState
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
    records.create(task_id, name="examples.add", queue="default", priority=5)
    return task_id


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
    assert records.store_state("never", "SUCCESS") is False
    assert records.get("never") is None, "a report does not make a record"


def test_a_record_is_kept_a_week_until_its_task_has_ended_and_an_hour_from_then(app: CeleriacApp, records: Records):
    created(records)
    assert UNFINISHED - 60 < time_left(app, "one") <= UNFINISHED
    records.store_state("one", "STARTED", worker="w")
    assert UNFINISHED - 60 < time_left(app, "one") <= UNFINISHED
    records.store_state("one", "SUCCESS", worker="w", retries=2)
    assert FINISHED - 60 < time_left(app, "one") <= FINISHED
    record = records.get("one")
    assert record is not None
    assert (record.worker, record.retries) == ("w", 2)
    assert record.submitted_at <= str(record.started_at) <= str(record.finished_at)


def test_a_record_expires(app: CeleriacApp):
    records = Records(app.redis, expires_seconds=1, unfinished_expires_seconds=UNFINISHED)
    created(records)
    records.store_state("one", "FAILURE")
    wait_for(lambda: records.get("one") is None, "the record to expire", 5)


@pytest.mark.parametrize("report", ["STARTED", "RETRY", "SUCCESS", "FAILURE"])
def test_a_cancelled_task_stays_so_whatever_a_worker_reports(app: CeleriacApp, records: Records, report: str):
    created(records)
    assert records.revoke("one") is TaskState.PENDING
    app.backend.store_result("one", {"any": "thing"}, report)
    record = records.get("one")
    assert record is not None
    assert (record.state, record.result, record.error) == (TaskState.REVOKED, None, None)
    assert records.store_state("one", report) is False
    assert records.state("one") is TaskState.REVOKED
    assert records.is_revoked("one")


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
    records.store_state("one", "SUCCESS")
    assert records.revoke("one") is TaskState.SUCCESS
    assert not records.is_revoked("one")
    with pytest.raises(Conflict, match="has already finished"):
        cancel(app, "one")


def test_cancelling_twice_is_no_error_and_tells_the_workers_again(
    app: CeleriacApp, records: Records, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    created(records)

    def fail(task_id: str, **_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(app.control, "revoke", fail)
    with pytest.raises(Unavailable, match="cancel it again"):
        cancel(app, "one")
    monkeypatch.setattr(app.control, "revoke", lambda task_id, **_: told.append(task_id))
    assert cancel(app, "one").state is TaskState.REVOKED
    assert told == ["one"]


def test_a_cancellation_is_remembered_as_long_as_the_record(app: CeleriacApp):
    records = Records(app.redis, expires_seconds=1, unfinished_expires_seconds=1)
    records.revoke(created(records))
    assert records.is_revoked("one")
    wait_for(lambda: not records.is_revoked("one"), "the cancellation to expire", 5)
    records.revoke(created(records, "two"))
    assert app.redis.zrange("celeriac:revoked", 0, -1) == ["two"], "what has expired is swept by the next"


def test_a_publish_without_an_answer_keeps_its_record_for_the_message_may_have_arrived(
    app: CeleriacApp, records: Records
):
    app.conf.broker_url = f"celeriac://127.0.0.1:{free_port()}/0"
    with pytest.raises(OperationalError):
        app.tasks["examples.add"].apply_async((1, 2), task_id="one")
    record = records.get("one")
    assert record is not None
    assert record.state == "PENDING"
    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        asyncio.run(submit(app, "examples.add", [1, 2]))


def test_a_delayed_task_is_known_and_stays_cancelled_until_long_after_it_was_due(app: CeleriacApp, records: Records):
    month = 30 * 86400
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", countdown=month)
    assert app.redis.ttl("celeriac:task:one") > month + 86400
    records.revoke("one")
    assert app.redis.ttl("celeriac:task:one") > month
    assert app.redis.zscore("celeriac:revoked", "one") > time.time() + month


def test_a_submit_is_refused_soon_where_redis_is_away(make_app: Callable[..., CeleriacApp]):
    app = make_app(redis_url=f"redis://127.0.0.1:{free_port()}/0", workloads=("workloads.examples",))
    start = time.monotonic()
    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        asyncio.run(submit(app, "examples.add", [1, 2]))
    assert time.monotonic() - start < 3


def test_code_and_api_write_the_same(app: CeleriacApp, records: Records):
    by_code = app.tasks["examples.add"].delay(1, y=2).id
    by_api = asyncio.run(submit(app, "examples.add", [1], {"y": 2})).task_id
    one, other = (app.redis.hgetall(f"celeriac:task:{task_id}") for task_id in (by_code, by_api))
    for fields in (one, other):
        fields.pop("submitted_at")
    assert one == other
    later, earlier = messages(app, "default")
    assert arguments(earlier) == arguments(later) == ([1], {"y": 2})
    assert earlier["headers"].keys() == later["headers"].keys()
    assert earlier["properties"].keys() == later["properties"].keys()
    different = {name for name in earlier["headers"] if earlier["headers"][name] != later["headers"][name]}
    # `ignore_result` is False in one and None in the other: both leave it to the task.
    assert different <= {"id", "root_id", "celeriac_submitted_ms", "argsrepr", "ignore_result"}


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
        asyncio.run(submit(app, "examples.add", [1, 2], **options))
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
    records.store_state("one", "RETRY", retries=1)
    before = records.get("one")
    app.tasks["examples.add"].apply_async((1, 2), task_id="one", retries=1)
    assert records.get("one") == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_whatever_is_json_comes_back_as_it_was(app: CeleriacApp, args: list[Any], kwargs: dict[str, Any]):
    app.redis.delete("default")
    asyncio.run(submit(app, "examples.add", args, kwargs))
    (message,) = messages(app, "default")
    assert arguments(message) == (args, kwargs)
