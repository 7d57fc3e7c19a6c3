"""The connection by which every task's scripts are called."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from celeriac.broker import connect
from celeriac.broker.caller import Caller
from tests.servers import RedisServer

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
#: Takes so many milliseconds.
SLOW = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local till = now() + ARGV[1]
while now() < till do end
return 'slow'
"""


class Interruption(Exception):
    """As Celery interrupts a task whose time is up: between any two lines."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server.url, decode_responses=True, socket_timeout=2) as client:
        yield client


def connections(client: redis.Redis) -> int:
    """How many there have ever been."""
    return int(client.info("stats")["total_connections_received"])


def test_as_many_connections_are_used_as_there_are_calls_at_the_same_time(client: redis.Redis):
    caller, add = Caller(client), client.register_script(ADD)
    before = connections(client)
    assert [caller.call(add, ["n"], [2]) for _ in range(10)] == list(range(2, 22, 2))
    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(caller.call, add, ["n"], [1]).result() for _ in range(10)] == list(range(21, 31))
    assert connections(client) == before + 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: caller.call(add, [f"m{number % 50}"], [1]), range(1000)))
    assert sorted(answers) == sorted(list(range(1, 21)) * 50)
    assert connections(client) <= before + 4


def test_an_answer_that_nobody_waited_for_is_not_taken_for_that_of_the_next_call(client: redis.Redis):
    caller = Caller(client)
    slow, add = client.register_script(SLOW), client.register_script(ADD)
    caller.call(add, ["n"], [1])

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Interruption):
            caller.call(slow, [], [300])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caller.call(add, ["n"], [1]) == 2


def test_a_redis_that_has_forgotten_the_script_is_told_it_again(client: redis.Redis):
    caller, add = Caller(client), client.register_script(ADD)
    caller.call(add, ["n"], [1])
    client.script_flush()
    assert caller.call(add, ["n"], [1]) == 2


def test_what_the_script_says_is_wrong_leaves_the_connection_whole(client: redis.Redis):
    caller, add = Caller(client), client.register_script(ADD)
    client.set("text", "no number")
    caller.call(add, ["n"], [1])
    before = connections(client)
    with pytest.raises(ResponseError, match="not an integer"):
        caller.call(add, ["text"], [1])
    assert caller.call(add, ["n"], [1]) == 2
    assert connections(client) == before


def test_a_redis_that_was_restarted_is_called_as_soon_as_it_is_back(client: redis.Redis, server: RedisServer):
    caller, add = Caller(client), client.register_script(ADD)
    caller.call(add, ["n"], [1])
    server.kill()
    for _ in range(3):
        with pytest.raises(RedisConnectionError):
            caller.call(add, ["n"], [1])
    server.start()
    assert caller.call(add, ["m"], [1]) == 1


def test_a_connection_that_redis_has_closed_is_replaced_without_an_error(client: redis.Redis):
    caller, add = Caller(client), client.register_script(ADD)
    caller.call(add, ["n"], [1])
    client.client_kill_filter(_type="normal", skipme=True)
    assert caller.call(add, ["n"], [1]) == 2


def test_a_child_that_was_forked_leaves_its_parents_connection_alone(client: redis.Redis):
    caller, add = Caller(client), client.register_script(ADD)
    caller.call(add, ["n"], [1])
    before = connections(client)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_call_often, args=(caller, client, f"child{n}")) for n in range(3)]
    for child in children:
        child.start()
    mine = [caller.call(add, ["n"], [1]) for _ in range(500)]
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert mine == list(range(2, 502))
    assert [client.get(f"child{n}") for n in range(3)] == ["500"] * 3
    assert connections(client) >= before + 3


def _call_often(caller: Caller, client: redis.Redis, name: str) -> None:
    add = client.register_script(ADD)
    assert [caller.call(add, [name], [1]) for _ in range(500)] == list(range(1, 501))
