"""A channel as kombu's users have it, without Celery's worker, on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac.broker import broker_url
from celeriac.broker import channel as channel_module
from celeriac.broker.channel import Channel
from celeriac.broker.holder import Holder
from celeriac.broker.leases import Leases
from celeriac.broker.pauses import Pauses
from celeriac.broker.publication import Publication
from tests.broker import message
from tests.integration.broker.conftest import KEYS
from tests.platform import wait_for


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def connection(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection whose process holds nothing yet; its keeper ends with it."""
    holders: dict[Any, Holder] = {}
    monkeypatch.setattr(Holder, "_known", holders)
    with Connection(broker_url(redis_url)) as connection:
        yield connection
    for holder in holders.values():
        if holder._keeper is not None:
            holder._keeper.stop()
            holder._keeper.join(5)


@pytest.fixture
def received() -> list[Any]:
    return []


@pytest.fixture
def consume(connection: Connection, received: list[Any]) -> Callable[..., Consumer]:
    """Starts to consume queue `q`."""

    def start(channel: Channel | None = None) -> Consumer:
        consumer = Consumer(
            channel or connection.default_channel,
            [Queue("q")],
            on_message=received.append,
            accept=["json"],
            prefetch_count=1,
        )
        consumer.consume()
        return consumer

    return start


def publish(client: redis.Redis, *task_ids: str, eta: datetime | None = None) -> None:
    """Put messages into the queue as a publisher does that knows no delays."""
    for task_id in task_ids:
        headers = {"id": task_id, "eta": None if eta is None else eta.isoformat()}
        client.lpush("q", message('"body"', headers=headers))


def turn(connection: Connection) -> None:
    """One turn of the loop, which waits for a moment."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.05)


def receive(connection: Connection, received: list[Any], count: int = 1) -> None:
    def has_come() -> bool:
        turn(connection)
        return len(received) >= count

    wait_for(has_come, f"{count} messages", 5)


def nothing_in_flight(client: redis.Redis) -> bool:
    return not client.exists(KEYS.inflight, KEYS.leases("q"), KEYS.started)


def test_an_acknowledgement_whose_claim_could_not_be_sent_is_sent_later(
    connection: Connection,
    client: redis.Redis,
    consume: Callable[..., Consumer],
    received: list[Any],
    monkeypatch: pytest.MonkeyPatch,
):
    publish(client, "one")
    channel = consume().channel
    receive(connection, received)
    channel.holder.gathers = True
    received[0].ack()
    assert client.hlen(KEYS.inflight) == 1, "it goes with the next claim"

    def break_off(_packed: object) -> None:
        raise RedisConnectionError

    monkeypatch.setattr(channel.client.connection, "send_packed_command", break_off)
    with pytest.raises(RedisConnectionError):
        wait_for(lambda: turn(connection), "the claim", 5)
    connection.close()
    wait_for(lambda: nothing_in_flight(client), "the keeper to send it", 5)
    assert client.llen("q") == 0


def test_what_was_gathered_when_the_last_queue_is_cancelled_is_acknowledged(
    connection: Connection, client: redis.Redis, consume: Callable[..., Consumer], received: list[Any]
):
    publish(client, "one", "two")
    consumer = consume()
    receive(connection, received)
    consumer.channel.holder.gathers = True
    consumer.cancel_by_queue("q")
    received[0].ack()
    assert client.hlen(KEYS.inflight) == 1
    turn(connection)
    assert nothing_in_flight(client)
    assert client.llen("q") == 1, "nothing more is claimed"


@pytest.mark.parametrize("no_ack", [True, False])
def test_one_message_can_be_got_without_consuming(connection: Connection, client: redis.Redis, no_ack: bool):
    publish(client, "one", "two")
    got = connection.default_channel.basic_get("q", no_ack=no_ack)
    assert got.headers["id"] == "one"
    assert client.llen("q") == 1
    assert nothing_in_flight(client) is no_ack
    if not no_ack:
        got.ack()
        assert nothing_in_flight(client)


def test_a_delay_that_its_publisher_left_to_the_worker_is_waited_for_in_redis(
    connection: Connection, client: redis.Redis, consume: Callable[..., Consumer], received: list[Any]
):
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    publish(client, "later", eta=due)
    publish(client, "now")
    consume()
    receive(connection, received)
    assert received[0].headers["id"] == "now", "what is delayed takes no place of the one that may be held"
    assert client.zscore(KEYS.delayed("q"), "later") == int(due.timestamp() * 1000)
    received[0].ack()
    receive(connection, received, 2)
    assert 0 <= (datetime.now(UTC) - due).total_seconds() < 0.5
    assert (received[1].headers["eta"], received[1].headers["celeriac_eta"]) == (None, due.isoformat())


def test_what_is_due_by_the_clock_of_redis_is_delivered_to_a_worker_whose_own_clock_is_late(
    connection: Connection,
    client: redis.Redis,
    consume: Callable[..., Consumer],
    received: list[Any],
    monkeypatch: pytest.MonkeyPatch,
):
    """Its publisher's clock is as late, or it would not be due: it is not thrown away, nor left to Celery's timer."""
    clock = time.time
    monkeypatch.setattr(channel_module.time, "time", lambda: clock() - 60)
    publish(client, "one", eta=datetime.fromtimestamp(clock(), UTC))
    consume()
    receive(connection, received)
    assert received[0].headers["eta"] is None
    assert client.zcard(KEYS.delayed("q")) == 0
    received[0].ack()
    assert nothing_in_flight(client)


def test_nothing_is_got_from_a_paused_queue(connection: Connection, client: redis.Redis):
    publish(client, "one")
    Pauses(client, KEYS).pause("q")
    assert connection.default_channel.basic_get("q") is None
    Pauses(client, KEYS).resume("q")
    assert connection.default_channel.basic_get("q").headers["id"] == "one"


def test_a_consumer_of_a_paused_queue_rests_and_is_woken_when_it_is_resumed(
    connection: Connection,
    client: redis.Redis,
    consume: Callable[..., Consumer],
    received: list[Any],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(channel_module, "WAIT_SECONDS", 60)
    pauses, leases = Pauses(client, KEYS), Leases(client, KEYS)
    pauses.pause("q")
    leases.claim(["q"], 0)  # a script that Redis does not know is sent twice
    claims: list[object] = []
    send = Channel._send_claim
    monkeypatch.setattr(Channel, "_send_claim", lambda channel, **options: (claims.append(1), send(channel, **options)))
    consume()
    for number in range(20):
        raw = message(headers={"id": str(number)})
        leases.publish(Publication("q", raw, priority=5, due_ms=None, waiting_id=str(number)))
        turn(connection)
    assert len(claims) == 1, "it looks once, and waits"
    pauses.resume("q")
    receive(connection, received)
    assert received[0].headers["id"] == "0"
