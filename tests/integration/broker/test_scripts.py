"""The contract of each script by examples, on a real Redis; `test_state_machine.py` has them all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from celeriac.broker import Keys, messages, scripts
from celeriac.broker import leases as leases_module
from celeriac.broker.leases import LEASE_SECONDS, POLICY, DeathNotice, DeathPending, Delivery, Leases
from celeriac.broker.pauses import Pauses
from celeriac.broker.publication import Companion, Publication
from tests.broker import Clock, claimed, inflight, message

PREFIX = "app:"
KEYS = Keys(PREFIX)

LEASE_MS = int(LEASE_SECONDS * 1000)
HOUR_MS = 3_600_000


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def clock(client: redis.Redis) -> Clock:
    return Clock(client)


@pytest.fixture
def leases(client: redis.Redis, clock: Clock) -> Leases:
    return Leases(client, KEYS, clock=clock.lua)


@pytest.fixture
def pauses(client: redis.Redis) -> Pauses:
    return Pauses(client, KEYS)


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[DeathNotice]:
    """What the policy's listener is told; a message is given up after two deliveries."""
    told: list[DeathNotice] = []
    monkeypatch.setattr(POLICY, "limits", {"q": 2})
    monkeypatch.setattr(POLICY, "listener", told.append)
    return told


def publish(leases: Leases, *raws: str, queue: str = "q", priority: int = 5) -> None:
    for raw in raws:
        leases.publish(Publication(queue, raw, priority=priority, due_ms=None, waiting_id="id"))


def publish_due(leases: Leases, raw: str, due_ms: int, *, queue: str = "q", priority: int = 5, task_id: str = "id"):
    leases.publish(Publication(queue, raw, priority=priority, due_ms=due_ms, waiting_id=task_id))


def claim(leases: Leases, *queues: str, count: int = 100, **options: Any) -> list[tuple[Delivery, bool, str]]:
    names = list(queues) or ["q"]
    return claimed(leases.claim(names, count, **options), names)


def take(leases: Leases, *, started: bool = True) -> Delivery:
    """Claim one message; started as under plain Celery, where each delivery counts as a start."""
    ((delivery, _, _),) = claim(leases, count=1, marks_starts=not started)
    return delivery


def raws(answer: list[tuple[Delivery, bool, str]]) -> list[str]:
    return [raw for _, _, raw in answer]


def ready(client: redis.Redis, queue: str = "q", priority: int = 5) -> list[str]:
    """The ready messages of one priority, the next one first."""
    return client.lrange(KEYS.ready(queue, priority), 0, -1)[::-1]


def delayed(client: redis.Redis, queue: str = "q") -> dict[str, tuple[int, str, str]]:
    """Due time, list and raw message of what waits, by the id it waits under."""
    bodies = client.hgetall(KEYS.delayed_messages(queue))
    due = dict(client.zrange(KEYS.delayed(queue), 0, -1, withscores=True))
    assert bodies.keys() == due.keys()
    return {name: (int(due[name]), *body.split("\n", 1)) for name, body in bodies.items()}


def dead(client: redis.Redis, queue: str = "q") -> list[dict[str, Any]]:
    return [json.loads(letter) for letter in client.lrange(KEYS.dead(queue), 0, -1)]


def nothing_in_flight(client: redis.Redis, queue: str = "q") -> bool:
    return not client.exists(KEYS.inflight, KEYS.leases(queue), KEYS.started)


def not_yet(_notice: DeathNotice) -> None:
    raise DeathPending


def count_of(raw: str) -> int:
    parsed = messages.parse(raw)
    assert parsed is not None
    return messages.delivery_count(parsed)


# claim


def test_a_claim_moves_a_message_to_a_lease_with_owner_list_and_raw_text(
    leases: Leases, client: redis.Redis, clock: Clock
):
    raw = message("one")
    publish(leases, raw)
    ((delivery, revoked, text),) = claim(leases)
    assert (delivery.queue, revoked, text) == ("q", False, raw)
    assert ready(client) == []
    assert inflight(client, KEYS) == {delivery.tag: (leases.owner, "app:q", raw)}
    assert client.zrange(KEYS.leases("q"), 0, -1, withscores=True) == [(str(delivery.tag), clock.ms + LEASE_MS)]
    assert not client.exists(KEYS.started), "whoever marks starts marks this one when it starts"


def test_a_delivery_counts_as_started_where_nobody_marks_starts(leases: Leases, client: redis.Redis):
    publish(leases, message())
    delivery = take(leases, started=True)
    assert client.smembers(KEYS.started) == {str(delivery.tag)}


def test_9_is_claimed_first_and_0_last_and_the_first_in_is_the_first_out(leases: Leases):
    published = {priority: [message(f"{priority}a"), message(f"{priority}b")] for priority in (3, 0, 9, 5, 7)}
    for priority, pair in published.items():
        publish(leases, *pair, priority=priority)
    assert raws(claim(leases)) == [raw for priority in (9, 7, 5, 3, 0) for raw in published[priority]]


def test_an_urgent_message_of_one_queue_goes_before_a_usual_one_of_another(leases: Leases):
    publish(leases, message("usual"), queue="a")
    publish(leases, message("urgent"), queue="b", priority=9)
    assert raws(claim(leases, "a", "b", count=1)) == [message("urgent")]


@pytest.mark.parametrize(
    ("lengths", "count", "shares"),
    [
        ((10, 10), 4, (2, 2)),
        ((10, 10), 5, (3, 2)),
        ((10, 10, 10), 2, (1, 1, 0)),
        ((1, 10, 10), 9, (1, 4, 4)),
        ((0, 10), 6, (0, 6)),
        ((2, 3), 100, (2, 3)),
        ((10, 10, 10), 1, (1, 0, 0)),
    ],
)
def test_queues_share_what_a_claim_may_take(
    leases: Leases, lengths: tuple[int, ...], count: int, shares: tuple[int, ...]
):
    queues = [f"q{number}" for number in range(len(lengths))]
    for queue, length in zip(queues, lengths, strict=True):
        publish(leases, *(message(f"{queue} {number}") for number in range(length)), queue=queue)
    answer = claim(leases, *queues, count=count)
    assert tuple(sum(delivery.queue == queue for delivery, _, _ in answer) for queue in queues) == shares


def test_a_claim_never_takes_more_than_it_may_over_all_queues_and_priorities(leases: Leases, client: redis.Redis):
    for queue in ("a", "b", "c"):
        for priority in range(10):
            publish(leases, *(message(str(number)) for number in range(3)), queue=queue, priority=priority)
    left = 90
    for count in (1, 2, 7, 0, 13, 31, 100):
        taken = len(claim(leases, "a", "b", "c", count=count))
        assert taken == min(count, left)
        left -= taken
    assert left == 0
    assert len(inflight(client, KEYS)) == 90


def test_messages_that_need_no_acknowledgement_get_no_lease(leases: Leases, client: redis.Redis):
    publish(leases, message("reply"), queue="reply")
    publish(leases, message("task"))
    answer = claim(leases, "reply", "q", no_ack=["reply"], marks_starts=False)
    assert raws(answer) == [message("reply"), message("task")]
    kept = answer[1][0].tag
    assert inflight(client, KEYS).keys() == {kept}
    assert client.smembers(KEYS.started) == {str(kept)}
    assert client.zcard(KEYS.leases("reply")) == 0


def test_a_claim_says_which_tasks_are_revoked(leases: Leases, client: redis.Redis, clock: Clock):
    now = clock.us / 1_000_000
    client.zadd(KEYS.revoked, {"gone": now + 60, "forgotten": now - 1})
    for task_id in ("gone", "forgotten", "other"):
        publish(leases, message('{"id": "gone"}', headers={"id": task_id, "argsrepr": '{"id": "gone"}'}))
    publish(leases, '{"body": "", "headers":{"id":"gone"}}', "no message at all")
    assert [revoked for _, revoked, _ in claim(leases)] == [True, False, False, True, False]


def test_tags_increase_from_message_to_message_and_from_claim_to_claim(leases: Leases):
    publish(leases, *(message(str(number)) for number in range(20)))
    tags = [delivery.tag for count in (5, 1, 14) for delivery, _, _ in claim(leases, count=count)]
    assert tags == sorted(set(tags))
    assert len(tags) == 20


@pytest.mark.parametrize("loss", ["deleted", "lowered"])
def test_tags_are_never_repeated_though_redis_forgets_the_last_one(client: redis.Redis, loss: str):
    """By Redis' own clock: its data may be a second old after a crash, its time is not."""
    leases = Leases(client, KEYS)
    client.lpush(KEYS.ready("q"), *(message(str(number)) for number in range(2000)))
    seen: list[int] = []
    for _ in range(4):
        before = client.get(KEYS.prefix + "celeriac:seq")
        seen += [delivery.tag for delivery, _, _ in claim(leases, count=500)]
        if loss == "deleted":
            client.delete(KEYS.prefix + "celeriac:seq")
        else:
            client.set(KEYS.prefix + "celeriac:seq", before or 1)
    assert seen == sorted(set(seen))


def test_tags_go_on_when_the_clock_is_turned_back(leases: Leases, clock: Clock):
    publish(leases, message("one"), message("two"))
    first = take(leases)
    clock.go_to(clock.us - 3600 * 1_000_000)
    assert take(leases).tag == first.tag + 1


def test_wake_up_tokens_are_dropped_only_with_the_last_message(leases: Leases, client: redis.Redis):
    publish(leases, message("one"), message("two"))
    claim(leases, count=1)
    assert client.llen(KEYS.wake("q")) == 2
    claim(leases, count=1)
    assert client.llen(KEYS.wake("q")) == 2, "there may be more"
    claim(leases, count=1)
    assert client.llen(KEYS.wake("q")) == 0


# pause and resume


def test_nothing_is_claimed_from_a_paused_queue_and_others_have_all_of_the_claim(
    leases: Leases, client: redis.Redis, pauses: Pauses
):
    for queue in ("q", "other"):
        publish(leases, *(message(f"{queue} {number}") for number in range(3)), queue=queue)
    publish(leases, message("urgent"), priority=9)
    assert (pauses.pause("q"), pauses.pause("q")) == (True, False)
    assert pauses.queues() == {"q"}
    assert raws(claim(leases, "q", "other", count=4)) == [message(f"other {number}") for number in range(3)]
    assert claim(leases) == claim(leases, no_ack=["q"]) == []
    assert [len(ready(client, priority=priority)) for priority in (5, 9)] == [3, 1]
    assert (pauses.resume("q"), pauses.resume("q")) == (True, False)
    assert pauses.queues() == set()
    assert raws(claim(leases, count=2)) == [message("urgent"), message("q 0")]


def test_a_paused_queue_takes_what_is_published_becomes_due_or_comes_back(
    leases: Leases, client: redis.Redis, clock: Clock, pauses: Pauses
):
    publish(leases, message("comes back"), message("ends"))
    back, ends = take(leases), take(leases)
    pauses.pause("q")
    publish_due(leases, message("due"), clock.ms + 1000)
    publish(leases, message("new"))
    clock.go_on(1)
    leases.tend()
    leases.release(back)
    assert leases.acknowledge([ends]) == set()
    assert ready(client) == [message(text) for text in ("comes back", "new", "due")]
    assert claim(leases) == []


def test_nobody_is_woken_for_a_paused_queue_and_many_are_when_it_is_resumed(
    leases: Leases, client: redis.Redis, clock: Clock, pauses: Pauses
):
    publish(leases, message("before"), message("taken"))
    taken = take(leases)
    pauses.pause("q")
    publish(leases, message("new"))
    publish_due(leases, message("due"), clock.ms + 1000)
    clock.go_on(1)
    leases.tend()
    leases.release(taken)
    assert client.llen(KEYS.wake("q")) == 0
    pauses.resume("q")
    assert client.llen(KEYS.wake("q")) == 64
    claim(leases)
    assert client.llen(KEYS.wake("q")) == 0, "none is left when nothing is"


def test_a_queue_is_paused_and_resumed_though_redis_is_full(leases: Leases, client: redis.Redis, pauses: Pauses):
    publish(leases, message("one"))
    client.config_set("maxmemory", 1)
    try:
        assert pauses.pause("q")
        assert claim(leases) == []
        assert pauses.resume("q")
        assert len(claim(leases)) == 1
    finally:
        client.config_set("maxmemory", 0)


# acknowledge


def test_an_acknowledged_message_is_gone(leases: Leases, client: redis.Redis):
    publish(leases, message("one"), message("two"))
    one, two = take(leases), take(leases)
    assert leases.acknowledge([one]) == set()
    assert inflight(client, KEYS).keys() == {two.tag}
    assert client.zrange(KEYS.leases("q"), 0, -1) == client.sort(KEYS.started) == [str(two.tag)]
    assert leases.acknowledge([two]) == set()
    assert nothing_in_flight(client)
    assert leases.acknowledge([]) == set()


def test_an_acknowledgement_of_what_was_given_to_another_is_refused_and_changes_nothing(
    leases: Leases, client: redis.Redis
):
    publish(leases, message())
    paused = take(leases)
    leases.give_up(paused, "its worker stopped renewing the lease")
    assert leases.acknowledge([paused]) == {paused.tag}
    assert len(ready(client)) == 1
    other = take(leases)
    assert leases.acknowledge([paused, other]) == {paused.tag}
    assert leases.acknowledge([other]) == {other.tag}, "once only"


def test_a_lease_that_has_ended_and_was_not_given_to_another_can_be_acknowledged(leases: Leases, clock: Clock):
    publish(leases, message())
    late = take(leases)
    clock.go_on(60)
    assert leases.acknowledge([late]) == set()


# renew


def test_renewal_of_many_queues_at_once_says_which_leases_are_lost(leases: Leases, client: redis.Redis, clock: Clock):
    for queue in ("a", "b"):
        publish(leases, message("one"), message("two"), queue=queue)
    held = [delivery for delivery, _, _ in claim(leases, "a", "b")]
    clock.go_on(3)
    leases.release(held[0])
    leases.acknowledge([held[2]])
    stranger = Delivery("a", 4711)
    assert leases.renew([*held, stranger]) == {held[0].tag, held[2].tag, stranger.tag}
    for kept in (held[1], held[3]):
        assert client.zscore(KEYS.leases(kept.queue), str(kept.tag)) == clock.ms + LEASE_MS
    assert client.zcard(KEYS.leases("a")) + client.zcard(KEYS.leases("b")) == 2, "a lost lease is not made anew"
    assert leases.renew([]) == set()


def test_a_lease_that_has_ended_can_be_renewed_until_it_is_given_to_another(leases: Leases, clock: Clock):
    publish(leases, message())
    delivery = take(leases)
    clock.go_on(60)
    assert leases.renew([delivery]) == set()
    assert leases.tend().ended == {}


def test_leases_are_renewed_though_redis_is_full(leases: Leases, client: redis.Redis, clock: Clock):
    """Its worker could not renew, and who holds none would see no error and judge it."""
    publish(leases, message("one"), message("two"))
    held = [delivery for delivery, _, _ in claim(leases)]
    clock.go_on(3)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError, match="maxmemory"):
            publish(leases, message("three"))
        assert leases.renew(held) == set()
        leases.release(held[0])
        assert len(claim(leases)) == 1
        assert leases.acknowledge(held[1:]) == set()
    finally:
        client.config_set("maxmemory", 0)


# give_back


def test_a_released_message_is_the_next_and_is_not_counted(leases: Leases, client: redis.Redis):
    first, second = message("first"), message("second")
    publish(leases, first, second)
    delivery = take(leases, started=True)
    for _ in range(2):
        assert leases.release(delivery) is True
        assert ready(client) == [first, second], "as they were, to the last byte, and once only"
        assert nothing_in_flight(client)


def test_a_message_that_was_started_can_be_left_where_only_what_waits_is_returned(leases: Leases, client: redis.Redis):
    publish(leases, message("starts"), message("waits"))
    starts, waits = take(leases, started=True), take(leases, started=False)
    assert leases.release(starts, started="leave") is False
    assert leases.release(waits, started="leave") is True
    assert ready(client) == [message("waits")]
    assert leases.is_held(starts)
    assert client.smembers(KEYS.started) == {str(starts.tag)}
    assert leases.acknowledge([starts]) == set()


@pytest.mark.parametrize(("side", "order"), [("head", ["first", "second"]), ("tail", ["second", "first"])])
def test_a_message_comes_back_to_the_side_that_was_asked_for(
    leases: Leases, client: redis.Redis, side: str, order: list[str]
):
    for priority in (0, 5):
        publish(leases, message("first"), message("second"), priority=priority)
        assert leases.give_up(take(leases, started=False), "why", side=side) == "returned"
        assert ready(client, priority=priority) == [message(body) for body in order]
        client.delete(KEYS.ready("q", priority))


def test_only_what_was_started_is_counted(leases: Leases, client: redis.Redis):
    publish(leases, message())
    leases.give_up(take(leases, started=False), "why")
    assert ready(client) == [message()]
    leases.give_up(take(leases, started=True), "why")
    leases.give_up(take(leases, started=False), "why")
    assert [count_of(raw) for raw in ready(client)] == [1]
    leases.give_up(take(leases, started=True), "why")
    assert [count_of(raw) for raw in ready(client)] == [2]


#: A message whose every byte counts: what a reader and writer of JSON would change.
DELICATE = (
    '{"body": "W10=", "content-encoding": "utf-8",  "content-type":"application/json", "headers": {%s}, '
    '"properties": {"big": 12345678901234567890, "empty": [], "none": {}, "float": 1.0, "small": 1e-7, '
    '"text": "\\u00e9é\\/\\"headers\\": {\\"x-delivery-count\\": 9} \\n", "same": 1, "same": 2}}'
)
HEADERS = '"id": "one", "stamps": {}, "args": [], "n": 9007199254740993'


@pytest.mark.parametrize(
    ("headers", "counted"),
    [
        ("", '"x-delivery-count": 1'),
        ("  ", '"x-delivery-count": 1  '),
        (HEADERS, f'"x-delivery-count": 1, {HEADERS}'),
        (f'"x-delivery-count": 1, {HEADERS}', f'"x-delivery-count": 2, {HEADERS}'),
        (f'{HEADERS}, "x-delivery-count": 9', f'{HEADERS}, "x-delivery-count": 10'),
        (f'{HEADERS}, "x-delivery-count": 99, "z": []', f'{HEADERS}, "x-delivery-count": 100, "z": []'),
        (f'"x-delivery-count":3,{HEADERS}', f'"x-delivery-count":4,{HEADERS}'),
        (f'"x-delivery-count": null, {HEADERS}', f'"x-delivery-count": 1, {HEADERS}'),
        (f'{HEADERS}, "x-delivery-count": "3"', f'{HEADERS}, "x-delivery-count": 1'),
    ],
)
def test_counting_changes_the_count_and_not_another_byte(
    leases: Leases, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, headers: str, counted: str
):
    monkeypatch.setattr(POLICY, "limits", {"q": 1000})
    publish(leases, DELICATE % headers)
    leases.give_up(take(leases), "why")
    assert ready(client) == [DELICATE % counted]
    again = take(leases)
    leases.give_up(again, "why")
    (twice,) = ready(client)
    assert count_of(twice) == count_of(DELICATE % counted) + 1


def test_headers_without_a_space_before_them_are_counted_too(leases: Leases, client: redis.Redis):
    publish(leases, '{"body":"","headers":{"id":"one"},"properties":{}}')
    leases.give_up(take(leases), "why")
    (raw,) = ready(client)
    assert json.loads(raw)["headers"] == {"x-delivery-count": 1, "id": "one"}


@pytest.mark.parametrize("raw", ["", "no message", "[1, 2]", '{"body": ""}', '{"body": "", "headers": null}', "a\nb\n"])
def test_what_is_no_message_comes_back_as_it_was(leases: Leases, client: redis.Redis, raw: str):
    publish(leases, raw)
    assert leases.give_up(take(leases), "why") == "returned"
    assert ready(client) == [raw]


@pytest.mark.parametrize("count", ["null", "-1", '"3"', "1.5", "true", '"a, \\"b"', "{}", "[1, 2]"])
def test_a_count_that_is_no_count_loses_no_message(leases: Leases, client: redis.Redis, count: str):
    raw = DELICATE % f'"x-delivery-count": {count}, {HEADERS}'
    publish(leases, raw)
    assert leases.give_up(take(leases), "why") == "returned"
    (back,) = ready(client)
    expected, found = json.loads(raw), json.loads(back)
    expected["headers"].pop("x-delivery-count")
    found["headers"].pop("x-delivery-count")
    assert found == expected


def test_bytes_that_are_no_text_come_back_as_they_were(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        leases = Leases(client, KEYS)
        client.lpush(KEYS.ready("q"), b"\xff\x00\n\xfe")
        _, tag, _, raw = leases.claim(["q"], 1)
        assert raw == b"\xff\x00\n\xfe"
        assert leases.release(Delivery("q", int(tag)))
        assert client.lrange(KEYS.ready("q"), 0, -1) == [raw]


@pytest.mark.parametrize("decodes", [False, True], ids=["bytes", "text"])
def test_bytes_that_are_no_text_can_be_given_up(redis_url: str, decodes: bool):
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(KEYS.ready("q"), b"\xff\x00\n\xfe")
        _, tag, _, _ = Leases(client, KEYS).claim(["q"], 1, marks_starts=False)
        with redis.Redis.from_url(redis_url, decode_responses=decodes) as other:
            assert Leases(other, KEYS).give_up(Delivery("q", int(tag)), "why") == "returned"
        assert client.lrange(KEYS.ready("q"), 0, -1) == [b"\xff\x00\n\xfe"]


@pytest.mark.parametrize("decodes", [False, True], ids=["bytes", "text"])
def test_bytes_that_are_no_text_can_be_buried(redis_url: str, decodes: bool):
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(KEYS.ready("q"), b"\xff\x00\n\xfe")
        _, tag, _, _ = Leases(client, KEYS).claim(["q"], 1)
        with redis.Redis.from_url(redis_url, decode_responses=decodes) as other:
            assert Leases(other, KEYS).bury(Delivery("q", int(tag)), "it is no message")
        assert client.llen(KEYS.dead("q")) == 1
        assert not client.exists(KEYS.inflight)


def test_a_message_is_returned_only_while_its_lease_is_the_one_that_was_seen_to_end(
    leases: Leases, client: redis.Redis, clock: Clock
):
    publish(leases, message())
    delivery = take(leases)
    end = str(clock.ms + LEASE_MS)
    assert leases.give_up(delivery, "why", ended=end) is None, "it has not ended"
    clock.go_on(LEASE_SECONDS)
    assert leases.give_up(delivery, "why", ended=end) is None, "it ends now"
    clock.go_on(0.001)
    leases.renew([delivery])
    assert leases.give_up(delivery, "why", ended=end) is None, "it was renewed"
    clock.go_on(LEASE_SECONDS + 0.001)
    assert leases.give_up(delivery, "why", ended=end) is None, "another end was seen than it has"
    assert leases.is_held(delivery)
    (seen,) = leases.tend().ended.values()
    assert leases.give_up(delivery, "why", ended=seen) == "returned"
    assert leases.give_up(delivery, "why", ended=seen) is None, "once only"
    assert len(ready(client)) == 1


def test_a_returned_message_wakes_who_waits_for_one(leases: Leases, client: redis.Redis):
    publish(leases, message())
    delivery = take(leases)
    client.delete(KEYS.wake("q"))
    leases.release(delivery)
    assert client.llen(KEYS.wake("q")) == 1


def test_wake_up_tokens_are_few_and_expire(leases: Leases, client: redis.Redis):
    publish(leases, *(message(str(number)) for number in range(100)))
    assert client.llen(KEYS.wake("q")) == 64
    assert 0 < client.ttl(KEYS.wake("q")) <= 60


# bury


def test_a_dead_letter_says_what_became_of_the_message(leases: Leases, client: redis.Redis, clock: Clock):
    raw = DELICATE % f'"x-delivery-count": 3, {HEADERS}'
    publish(leases, raw, priority=7)
    delivery = take(leases)
    assert leases.bury(delivery, "rejected", 'Err("é\n")') is True
    assert dead(client) == [
        {
            "tag": str(delivery.tag),
            "queue": "q",
            "list": "app:q:7",
            "worker": leases.owner,
            "reason": "rejected",
            "error": 'Err("é\n")',
            "deliveries": 4,
            "died_ms": clock.ms,
            "message": raw,
        }
    ]
    assert nothing_in_flight(client)
    assert leases.bury(delivery, "rejected") is False
    assert len(dead(client)) == 1


def test_a_message_is_given_up_after_so_many_deliveries_that_were_started(
    leases: Leases, client: redis.Redis, deaths: list[DeathNotice]
):
    publish(leases, message("poison", headers={"id": "one"}))
    assert leases.give_up(take(leases), "killed") == "returned"
    assert leases.give_up(take(leases, started=False), "killed") == "returned", "it was not started"
    assert deaths == []
    assert leases.give_up(take(leases), "killed again") == "dead"
    (letter,) = dead(client)
    assert (letter["reason"], letter["error"]) == ("delivered 2 times without an end", "killed again")
    assert letter["deliveries"] == 2
    (notice,) = deaths
    assert notice.message is not None
    assert (notice.delivery.queue, notice.error, notice.message["headers"]["id"]) == ("q", "killed again", "one")
    assert nothing_in_flight(client)
    assert ready(client) == []


def test_a_message_is_given_up_only_while_its_lease_is_the_one_that_was_seen_to_end(
    leases: Leases, client: redis.Redis, clock: Clock, deaths: list[DeathNotice]
):
    publish(leases, message(headers={"x-delivery-count": 1}))
    delivery = take(leases)
    end = str(clock.ms + LEASE_MS)
    clock.go_on(LEASE_SECONDS + 1)
    leases.renew([delivery])
    assert leases.give_up(delivery, "why", ended=end) is None
    assert leases.is_held(delivery)
    assert client.smembers(KEYS.started) == {str(delivery.tag)}
    clock.go_on(LEASE_SECONDS + 1)
    (seen,) = leases.tend().ended.values()
    assert leases.give_up(delivery, "why", ended=seen) == "dead"
    assert leases.give_up(delivery, "why", ended=seen) is None
    assert len(dead(client)) == 1


def test_of_all_who_have_seen_a_last_lease_end_one_tells_of_the_death(
    leases: Leases, client: redis.Redis, clock: Clock, deaths: list[DeathNotice], monkeypatch: pytest.MonkeyPatch
):
    publish(leases, message(headers={"x-delivery-count": 1}))
    delivery = take(leases)
    clock.go_on(LEASE_SECONDS + 1)
    (seen,) = leases.tend().ended.values()

    def another_looks(notice: DeathNotice) -> None:
        deaths.append(notice)
        assert leases.give_up(delivery, "why", ended=seen) is None
        assert leases.tend().ended == {}, "it is held by who tells"

    monkeypatch.setattr(POLICY, "listener", another_looks)
    assert leases.give_up(delivery, "why", ended=seen) == "dead"
    assert len(deaths) == len(dead(client)) == 1


def test_a_death_that_cannot_be_told_yet_waits_for_the_end_of_another_lease(
    leases: Leases, client: redis.Redis, clock: Clock, deaths: list[DeathNotice], monkeypatch: pytest.MonkeyPatch
):
    publish(leases, message(headers={"x-delivery-count": 1}))
    delivery = take(leases)
    clock.go_on(LEASE_SECONDS + 1)
    (seen,) = leases.tend().ended.values()
    monkeypatch.setattr(POLICY, "listener", not_yet)
    with pytest.raises(DeathPending):
        leases.give_up(delivery, "why", ended=seen)
    monkeypatch.setattr(POLICY, "listener", deaths.append)
    assert leases.is_held(delivery)
    assert dead(client) == []
    clock.go_on(LEASE_SECONDS + 1)
    (later,) = leases.tend().ended.values()
    assert leases.give_up(delivery, "why", ended=seen) is None, "the end that was seen is another's now"
    assert leases.give_up(delivery, "why", ended=later) == "dead"
    assert len(deaths) == len(dead(client)) == 1


def test_a_death_that_cannot_be_told_at_all_leaves_the_message_with_its_worker(
    leases: Leases, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(POLICY, "listener", not_yet)
    publish(leases, message())
    delivery = take(leases)
    with pytest.raises(DeathPending):
        leases.bury(delivery, "rejected")
    assert leases.acknowledge([delivery]) == set()
    assert dead(client) == []


def test_no_two_letters_of_a_queue_died_at_the_same_moment(leases: Leases, client: redis.Redis, clock: Clock):
    for number in range(4):
        publish(leases, message(str(number)), queue=("q", "other")[number == 3])
    for delivery, _, _ in claim(leases, "q", "other"):
        leases.bury(delivery, "why")
    assert [letter["died_ms"] - clock.ms for letter in dead(client)] == [2, 1, 0]
    assert [letter["died_ms"] - clock.ms for letter in dead(client, "other")] == [0]


def test_a_queue_keeps_its_newest_dead_letters(leases: Leases, client: redis.Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases_module, "DEAD_LETTERS_KEPT", 3)
    for number in range(5):
        publish(leases, message(str(number)))
        leases.bury(take(leases), str(number))
    assert [letter["reason"] for letter in dead(client)] == ["4", "3", "2"]


# replay


def replay(client: redis.Redis, letter: str, into: str, raw: str) -> int:
    script = client.register_script(scripts.source("replay"))
    return int(script(args=[PREFIX, "q", letter, into, raw, ""]))


def test_a_replayed_message_begins_anew_and_its_dead_letter_is_gone(leases: Leases, client: redis.Redis):
    publish(leases, message("one", headers={"x-delivery-count": 4, "id": "one"}), message("two"), priority=3)
    leases.bury(take(leases), "why")
    leases.bury(take(leases), "why")
    client.delete(KEYS.wake("q"))
    two, one = client.lrange(KEYS.dead("q"), 0, -1)
    assert replay(client, one, "app:q:3", json.loads(one)["message"]) == 1
    assert ready(client, priority=3) == [message("one", headers={"x-delivery-count": 0, "id": "one"})]
    assert client.lrange(KEYS.dead("q"), 0, -1) == [two]
    assert client.llen(KEYS.wake("q")) == 1


def test_a_dead_letter_is_replayed_once(leases: Leases, client: redis.Redis):
    publish(leases, message("one"))
    leases.bury(take(leases), "why")
    (letter,) = client.lrange(KEYS.dead("q"), 0, -1)
    assert [replay(client, letter, "app:q", message("one")) for _ in range(2)] == [1, 0]
    assert len(ready(client)) == 1


def test_a_dropped_dead_letter_is_gone_without_a_message(leases: Leases, client: redis.Redis):
    publish(leases, message("one"))
    leases.bury(take(leases), "why")
    (letter,) = client.lrange(KEYS.dead("q"), 0, -1)
    assert replay(client, letter, "", "") == 1
    assert ready(client) == dead(client) == []


# publish, and what waits until it is due


@pytest.mark.parametrize("priority", range(10))
def test_each_priority_has_a_list_and_5_the_queues_own(leases: Leases, client: redis.Redis, priority: int):
    publish(leases, message(), priority=priority)
    assert ready(client, priority=priority) == [message()]
    assert client.exists("app:q" if priority == 5 else f"app:q:{priority}")
    assert client.llen(KEYS.wake("q")) == 1


def test_queues_of_tasks_become_known_and_those_of_replies_do_not(leases: Leases, client: redis.Redis):
    publish(leases, message(), queue="tasks")
    leases.publish(Publication("reply", message(), waiting_id="id", tasks=False))
    assert client.smembers(KEYS.queues) == {"tasks"}


@pytest.mark.parametrize("due_in_ms", [None, 0, HOUR_MS])
def test_a_companion_is_written_with_the_message_in_place_of_what_was_there(
    leases: Leases, client: redis.Redis, clock: Clock, due_in_ms: int | None
):
    client.hset("app:record", mapping={"old": 1, "state": "SUCCESS", "queue": "before"})
    client.zadd(KEYS.index("SUCCESS", "before"), {"id": 1})
    fields = {"name": "n", "state": "PENDING", "queue": "q"}
    companion = Companion("app:record", "id", 60, 1_800_000_000_000, fields)
    due_ms = None if due_in_ms is None else clock.ms + due_in_ms
    leases.publish(Publication("q", message(), due_ms=due_ms, waiting_id="id", companion=companion))
    ((event, told),) = client.xrange(KEYS.events)
    assert told == {"id": "id", "state": "PENDING", "queue": "q", "name": "n"}
    assert client.hgetall("app:record") == {**fields, "event": event}
    assert 0 < client.ttl("app:record") <= 60
    assert client.zrange(KEYS.index("PENDING", "q"), 0, -1, withscores=True) == [("id", 1_800_000_000_000)]
    assert client.keys(f"{KEYS.indexes}*") == [KEYS.index("PENDING", "q")]
    assert len(ready(client)) + len(delayed(client)) == 1


@pytest.mark.parametrize("due_in_ms", [None, HOUR_MS])
def test_a_publish_that_is_repeated_changes_nothing_and_another_of_the_same_task_does(
    leases: Leases, client: redis.Redis, clock: Clock, due_in_ms: int | None
):
    """A publisher whose answer was lost repeats itself; meanwhile the task may have run."""
    due_ms = None if due_in_ms is None else clock.ms + due_in_ms

    def publish_at(submitted_at: str) -> None:
        fields = {"name": "n", "state": "PENDING", "queue": "q", "submitted_at": submitted_at}
        companion = Companion("app:record", "id", 60, 1_800_000_000_000, fields)
        leases.publish(Publication("q", message(), due_ms=due_ms, waiting_id="id", companion=companion))
        clock.go_on(0)

    publish_at("noon")
    client.hset("app:record", "state", "SUCCESS")
    publish_at("noon")
    assert client.hget("app:record", "state") == "SUCCESS"
    assert len(ready(client)) + len(delayed(client)) == client.xlen(KEYS.events) == 1
    publish_at("one o'clock")
    assert client.hget("app:record", "state") == "PENDING"
    assert len(ready(client)) + len(delayed(client)) == client.xlen(KEYS.events) == 2


@pytest.mark.parametrize("wait_ms", [-HOUR_MS, 0])
def test_what_is_due_now_is_ready_now(leases: Leases, client: redis.Redis, clock: Clock, wait_ms: int):
    publish_due(leases, message(), clock.ms + wait_ms)
    assert ready(client) == [message()]
    assert delayed(client) == {}


def test_what_is_due_later_waits_and_is_ready_when_it_is_due(leases: Leases, client: redis.Redis, clock: Clock):
    due = clock.ms + HOUR_MS
    publish_due(leases, message(), due, priority=8, task_id="one")
    assert delayed(client) == {"one": (due, "app:q:8", message())}
    assert client.smembers(KEYS.queues) == {"q"}
    assert claim(leases) == []
    clock.go_on(3599)
    assert leases.tend().next_due_seconds == pytest.approx(1, abs=0.001)
    assert claim(leases) == []
    clock.go_on(1)
    assert leases.tend().next_due_seconds is None
    assert delayed(client) == {}
    assert raws(claim(leases)) == [message()]


def test_two_messages_that_wait_under_one_task_id_both_come(leases: Leases, client: redis.Redis, clock: Clock):
    due = [clock.ms + HOUR_MS, clock.ms + HOUR_MS, clock.ms + 2 * HOUR_MS]
    for number, moment in enumerate(due):
        publish_due(leases, message(str(number)), moment, task_id="one")
        clock.go_on(0)
    waiting = delayed(client)
    assert len(waiting) == 3
    assert "one" in waiting
    assert all(name.startswith("one") for name in waiting)
    clock.go_on(3 * 3600)
    leases.tend()
    assert sorted(raws(claim(leases))) == sorted(message(str(number)) for number in range(3))


def test_only_what_is_due_soon_and_first_wakes_a_mover(leases: Leases, client: redis.Redis, clock: Clock):
    def wakes(due_in_ms: int) -> bool:
        before = client.llen(KEYS.wake_mover)
        publish_due(leases, message(), clock.ms + due_in_ms, task_id=str(due_in_ms))
        return bool(client.llen(KEYS.wake_mover) > before)

    assert [wakes(due) for due in (HOUR_MS, 1001, 900, 950, 899, 0)] == [False, False, True, False, True, False]
    for number in range(30):
        publish_due(leases, message(), clock.ms + 800 - number, task_id=f"n{number}")
    assert client.llen(KEYS.wake_mover) == 16
    assert 0 < client.ttl(KEYS.wake_mover) <= 60


# postpone


def test_a_postponed_delivery_waits_where_it_came_from(leases: Leases, client: redis.Redis, clock: Clock):
    publish(leases, message("one"), priority=2)
    delivery = take(leases)
    due = clock.ms + HOUR_MS
    leases.postpone(delivery, due, "one")
    assert nothing_in_flight(client)
    assert delayed(client) == {"one": (due, "app:q:2", message("one"))}
    assert leases.acknowledge([delivery]) == {delivery.tag}
    leases.postpone(delivery, due, "one")
    assert len(delayed(client)) == 1, "once only"


def test_a_delivery_that_is_due_by_the_clock_of_redis_stays_leased(leases: Leases, client: redis.Redis, clock: Clock):
    publish(leases, message("one"), message("two"))
    delivery = take(leases)
    assert not leases.postpone(delivery, clock.ms, "one"), "whoever thinks it early has a clock that is late"
    assert leases.is_held(delivery)
    assert ready(client) == [message("two")]


# tend


def test_what_is_due_is_moved_in_its_order_within_a_limit(leases: Leases, client: redis.Redis, clock: Clock):
    start = clock.ms
    for number in reversed(range(150)):
        publish_due(leases, message(str(number)), start + 1000 + number, task_id=f"{number}")
    clock.go_on(2)
    client.delete(KEYS.wake("q"))
    assert leases.tend().next_due_seconds == 0, "there are more now"
    assert ready(client) == [message(str(number)) for number in range(100)]
    assert leases.tend().next_due_seconds is None
    assert ready(client) == [message(str(number)) for number in range(150)]
    assert client.llen(KEYS.wake("q")) > 0


def test_every_queue_is_tended_and_the_earliest_says_when_to_look_again(
    leases: Leases, client: redis.Redis, clock: Clock
):
    assert leases.tend().next_due_seconds is None
    for queue, seconds in {"a": 30, "b": 20, "c": 0.5}.items():
        publish_due(leases, message(queue), clock.ms + int(seconds * 1000), queue=queue)
    clock.go_on(1)
    tended = leases.tend()
    assert tended.next_due_seconds == pytest.approx(19, abs=0.001)
    assert ready(client, "c") == [message("c")]
    assert len(delayed(client, "a")) == len(delayed(client, "b")) == 1


def test_of_several_keepers_two_are_told_when_a_message_is_due(leases: Leases, client: redis.Redis, clock: Clock):
    other, third = (Leases(client, KEYS, clock=clock.lua) for _ in range(2))
    start = clock.ms
    publish_due(leases, message("later"), start + 1000, task_id="later")
    assert [each.tend().next_due_seconds for each in (leases, other, third)] == [1.0] * 3, "each looks before that"
    clock.go_on(0.6)
    told = [each.tend().next_due_seconds for each in (leases, other, third, leases, other)]
    assert told == [0.4, 0.4, None, 0.4, 0.4], "they may ask as often as they like"
    publish_due(leases, message("earlier"), start + 800, task_id="earlier")
    assert [each.tend().next_due_seconds for each in (other, third, leases)] == [0.2, 0.2, None]
    clock.go_on(0.2)
    assert [each.tend().next_due_seconds for each in (third, leases, other)] == [0.2, 0.2, None]
    clock.go_on(0.2)
    assert raws(claim(leases)) == [message("earlier")]
    assert [each.tend().next_due_seconds for each in (leases, other)] == [None, None]
    assert raws(claim(leases)) == [message("later")], "whoever comes moves it"


def test_a_waiting_id_without_its_message_is_swept(leases: Leases, client: redis.Redis, clock: Clock):
    publish_due(leases, message(), clock.ms + 1000, task_id="one")
    client.delete(KEYS.delayed_messages("q"))
    clock.go_on(2)
    assert leases.tend().next_due_seconds is None
    assert ready(client) == []


def test_ended_leases_are_shown_with_their_end_and_left_as_they_are(leases: Leases, client: redis.Redis, clock: Clock):
    for queue in ("a", "b"):
        publish(leases, message(), queue=queue)
    old = {delivery: str(clock.ms + LEASE_MS) for delivery, _, _ in claim(leases, "a", "b")}
    clock.go_on(2)
    publish(leases, message(), queue="a")
    claim(leases, "a")
    clock.go_on(LEASE_SECONDS - 2)
    assert leases.tend().ended == {}, "they end now"
    clock.go_on(0.001)
    assert leases.tend().ended == leases.tend().ended == old
    assert len(inflight(client, KEYS)) == 3


def test_no_more_ended_leases_are_shown_than_can_be_looked_at(leases: Leases, clock: Clock):
    publish(leases, *(message(str(number)) for number in range(130)))
    claim(leases, count=130)
    clock.go_on(LEASE_SECONDS + 1)
    first = leases.tend().ended
    assert len(first) == 100
    for delivery, end in first.items():
        assert leases.give_up(delivery, "why", ended=end) == "returned"
    assert len(leases.tend().ended) == 30


# what holds for all


def test_another_prefix_is_another_platform(client: redis.Redis, leases: Leases, clock: Clock):
    other = Leases(client, Keys("other:"), clock=clock.lua)
    publish(leases, message("ours"))
    publish(other, message("theirs"))
    publish_due(other, message("waits"), clock.ms + 1000)
    mine = take(leases)
    end = str(clock.ms + LEASE_MS)
    clock.go_on(0)
    ((theirs, _, _),) = claim(other)
    assert leases.acknowledge([theirs]) == {theirs.tag}
    assert leases.renew([theirs]) == {theirs.tag}
    clock.go_on(60)
    assert leases.tend() == leases_module.Tended(None, {mine: end})
    assert other.is_held(theirs)
    assert other.raw(theirs) == message("theirs")
    assert leases.raw(theirs) is None


def test_a_queue_may_have_any_printable_name(client: redis.Redis, leases: Leases, clock: Clock):
    for queue in ("with space", "dots.and-dashes_", "a:b:c", "üñï", "celery@host.celery.pidbox", "{slot}"):
        publish(leases, message(queue), queue=queue)
        ((delivery, _, raw),) = claim(leases, queue)
        assert (delivery.queue, raw) == (queue, message(queue))
        clock.go_on(LEASE_SECONDS + 1)
        assert leases.tend().ended.keys() == {delivery}
        assert leases.give_up(delivery, "why") == "returned"
        assert leases.acknowledge([delivery for delivery, _, _ in claim(leases, queue)]) == set()


def test_scripts_are_loaded_again_when_redis_has_forgotten_them(client: redis.Redis, leases: Leases):
    publish(leases, message())
    client.script_flush()
    delivery = take(leases)
    client.script_flush()
    assert leases.acknowledge([delivery]) == set()
