"""What a process does with its deliveries while Redis does not answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from celeriac.broker import Endpoint, messages
from celeriac.broker import holder as holder_module
from celeriac.broker.holder import Holder
from celeriac.broker.leases import Delivery
from celeriac.broker.publication import Publication
from tests.broker import claimed, message
from tests.integration.broker.conftest import KEYS, StartKeeper, interrupt
from tests.platform import wait_for
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A Redis that may be stopped."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def holder(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Holder:
    """It waits for an answer for a second, and not for five."""
    monkeypatch.setattr(holder_module, "_TIMEOUT_SECONDS", 1)
    return Holder(Endpoint.parse(own_redis.url), KEYS)


def hold(holder: Holder, count: int, *, marks_starts: bool = True) -> list[Delivery]:
    """Have a holder hold new messages, whose task ids are their numbers."""
    for number in range(count):
        raw = message(headers={"id": str(number)})
        holder.leases.publish(Publication("q", raw, waiting_id=str(number)))
    answer = claimed(holder.leases.claim(["q"], count, marks_starts=marks_starts), ["q"])
    deliveries = [delivery for delivery, _, _ in answer]
    holder.table.hold(deliveries)
    return deliveries


def ready(client: redis.Redis) -> list[tuple[str, int]]:
    """Task id and delivery count of each ready message, the next one first."""
    found = [messages.parse(raw) or {} for raw in client.lrange(KEYS.ready("q"), 0, -1)[::-1]]
    return [(each["headers"]["id"], messages.delivery_count(each)) for each in found]


@pytest.mark.parametrize("marks_starts", [True, False])
def test_many_messages_are_returned_to_a_redis_that_hangs_in_the_time_of_one_and_in_order(
    own_redis: RedisServer, client: redis.Redis, holder: Holder, start_keeper: StartKeeper, marks_starts: bool
):
    deliveries = hold(holder, 50, marks_starts=marks_starts)
    start_keeper(holder.table, url=own_redis.url)
    wait_for(lambda: holder.table.renewed_at, "a renewal")
    end_outage = interrupt(own_redis, "stopped")
    try:
        began = time.monotonic()
        holder.release(
            [delivery.tag for delivery in reversed(deliveries)], started="leave" if marks_starts else "return"
        )
        seconds = time.monotonic() - began
    finally:
        end_outage()
    assert 0.9 < seconds < 2, "one timeout"
    wait_for(lambda: client.llen("q") == 50, "all messages to be back", 5)
    assert ready(client) == [(str(number), 0) for number in range(50)]
    wait_for(lambda: not holder.table.entries(), "the keeper to have done its part", 5)
    assert not client.exists(KEYS.inflight, KEYS.leases("q"), KEYS.started)


def test_a_redis_that_refuses_one_message_is_asked_to_take_the_next(client: redis.Redis, holder: Holder):
    first, second = hold(holder, 2)
    client.config_set("min-replicas-to-write", 1)
    try:
        holder.release([second.tag])
    finally:
        client.config_set("min-replicas-to-write", 0)
    holder.release([first.tag])
    assert ready(client) == [("0", 0)], "it was not left to the keeper"


def test_what_is_returned_after_an_outage_is_sent_at_once_again(
    own_redis: RedisServer, client: redis.Redis, holder: Holder
):
    first, second = hold(holder, 2)
    own_redis.kill()
    holder.release([second.tag])
    own_redis.start()
    wait_for(lambda: holder.release([first.tag]) or ready(client), "a try of its own", 5)
    assert ready(client) == [("0", 0)]
