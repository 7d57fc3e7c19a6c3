"""Messages that Celery would stumble over: a worker that meets one gives it up, and goes on with the next."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import redis

from celeriac.broker.dead_letters import DeadLetter
from tests.platform import Platform, wait_for


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def message(**changes: Any) -> dict[str, Any]:
    """What a publisher writes for `examples.add`, with parts replaced."""
    made = {
        "body": encoded([[3, 4], {}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "examples.add", "id": "an-id", "root_id": "an-id", "retries": 0},
        "properties": {
            "delivery_tag": "a-tag",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "default"},
            "priority": 5,
            "body_encoding": "base64",
        },
    }
    for name, value in changes.items():
        if name in {"headers", "properties"} and isinstance(value, dict):
            made[name] = {**made[name], **value}  # type: ignore[dict-item]
        else:
            made[name.replace("_", "-")] = value
    return made


def raw(**changes: Any) -> bytes:
    return json.dumps(message(**changes)).encode()


#: What no worker can make a task of.
HOPELESS = {
    "no JSON": b"garbage",
    "no UTF-8": b"\xff\xfe garbage \x80",
    "empty": b"",
    "a list": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "without end": b"[" * 100_000,
    "an object of nothing": b"{}",
    "no body": json.dumps({"headers": {}, "properties": {}}).encode(),
    "headers are a list": raw(headers=[]),
    "no headers": raw(headers=None),
    "properties are a text": raw(properties="all"),
    "delivery info is a list": raw(properties={"delivery_info": []}),
    "no base64": raw(body="%%%"),
    "half base64": raw(body="abcde"),
    "the body is a number": raw(body=5),
    "the body is an object": raw(body={"a": 1}),
    "the body is null": raw(body=None),
    "an unknown body encoding": raw(properties={"body_encoding": "base65"}),
    "the body encoding is a number": raw(properties={"body_encoding": 7}),
    "a body that is no JSON": raw(body=base64.b64encode(b"{").decode()),
    "a body of too few parts": raw(body=encoded([[1]])),
    "a body of a number": raw(body=encoded(5)),
    "a body of texts": raw(body=encoded(["args", "kwargs", "embed"])),
    "arguments are numbers": raw(body=encoded([1, 2, {}])),
    "the embed is a list": raw(body=encoded([[], {}, [1]])),
    "the embed is a text": raw(body=encoded([[], {}, "links"])),
    "another content type": raw(content_type="application/x-python-serialize"),
    "an unknown content type": raw(content_type="application/none"),
    "no content type": raw(content_type=None),
    "the content type is a list": raw(content_type=[]),
    "an unknown compression": raw(headers={"compression": "none"}),
    "no compressed body": raw(headers={"compression": "application/x-gzip"}),
    "no task": json.dumps({**message(), "headers": {"id": "an-id"}}).encode(),
    "an unknown task": raw(headers={"task": "examples.unknown"}),
    "the task is a list": raw(headers={"task": ["examples.add"]}),
    "the task is null": raw(headers={"task": None}),
    "no id": json.dumps({**message(), "headers": {"task": "examples.add"}}).encode(),
    "the id is a list": raw(headers={"id": ["one"]}),
    "the id is null": raw(headers={"id": None}),
    "an eta that is none": raw(headers={"eta": "soon"}),
    "the eta is a list": raw(headers={"eta": [1]}),
    "expires is none": raw(headers={"expires": "never"}),
    "expires is a list": raw(headers={"expires": [1]}),
    "the time limit is a text": raw(headers={"timelimit": "long"}),
    "the time limits are texts": raw(headers={"timelimit": ["long", "short"]}),
    "the time limits are three": raw(headers={"timelimit": [1, 2, 3]}),
    "the chord is a text": raw(headers={"group": "a-group"}, body=encoded([[3, 4], {}, {"chord": "all"}])),
    "the errbacks are a number": raw(body=encoded([[3, 4], {}, {"errbacks": 5}])),
    "the callbacks are a number": raw(body=encoded([[3, 4], {}, {"callbacks": 5}])),
    "the chain is a text": raw(body=encoded([[3, 4], {}, {"chain": "long"}])),
    "a lone surrogate": raw(headers={"task": "\ud800"}),
    "an old message of an unknown task": raw(headers={}, body=encoded({"task": "examples.unknown", "id": "old"})),
}

#: What is not as Celery writes it, and runs all the same.
ODD = {
    "UTF-16": json.dumps(message()).encode("utf-16"),
    "another content encoding": raw(content_encoding="utf-99"),
    "retries is a text": raw(headers={"retries": "often"}),
    "the count is a text": raw(headers={"x-delivery-count": "often"}),
    "the submit is a text": raw(headers={"celeriac_submitted_ms": "yesterday"}),
    "the priority is a text": raw(properties={"priority": "high"}),
}


def numbered(messages: dict[str, bytes]) -> dict[str, bytes]:
    """Each with an id of its own: a task that has ended does not run again."""
    return {what: content.replace(b"an-id", what.encode()) for what, content in messages.items()}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_message_that_no_worker_can_read_becomes_a_dead_letter_as_it_is(
    platform: Platform, redis_url: str, pool: str
):
    hopeless, odd = numbered(HOPELESS), numbered(ODD)
    platform.start_api()
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("default", *hopeless.values(), *odd.values())
        worker = platform.start("worker", "--queue=default", "--concurrency=2", f"--pool={pool}")
        assert platform.wait(platform.submit("examples.add", 1, 2))["result"] == 3, "the next one runs"
        wait_for(lambda: client.hlen("celeriac:inflight") == 0, "all messages to be settled")
        letters = {DeadLetter.parse(raw).message for raw in client.lrange("celeriac:dead:default", 0, -1)}
    assert {what for what, content in hopeless.items() if content not in letters} == set()
    assert {what for what, content in odd.items() if content in letters} == set()
    for item in platform.http.get("/admin/dead-letters", params={"limit": 1000}).json()["items"]:
        assert platform.http.get(f"/admin/dead-letters/{item['tag']}").json().items() >= item.items()
    assert worker.poll() is None
    assert "worker_replaced" not in platform.log("worker")
