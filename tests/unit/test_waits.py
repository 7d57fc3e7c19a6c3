"""The waits that tests/soak measures, by ledgers that are made up."""

from __future__ import annotations

import pytest

from tests.soak.history import History
from tests.soak.intervals import overlap, subtract, union
from tests.soak.ledger import (
    Ended,
    Event,
    Killed,
    Outcome,
    Ready,
    RedisDown,
    RedisUp,
    Spawned,
    Started,
    Stopping,
    Submitted,
    in_order,
)
from tests.soak.waits import waits


def worker(name: str = "w1", *, slots: int = 1, ready: float = 0, queue: str = "soak_a") -> list[Event]:
    return [Spawned(at=ready, worker=name, queues=[queue], slots=slots), Ready(at=ready, worker=name)]


def task(name: str, at: float, start: float | None = None, end: float | None = None, on: str = "w1") -> list[Event]:
    events: list[Event] = [Submitted(at=at, task=name, queue="soak_a", due=at)]
    if start is not None:
        events.append(Started(at=start, task=name, attempt=0, run=name, worker=on, queue="soak_a"))
    if end is not None:
        events.append(Ended(at=end, run=name, outcome=Outcome.SUCCESS))
    return events


def wait_of(name: str, *parts: list[Event], until: float = 100) -> float:
    history = History.of(in_order(event for part in parts for event in part))
    return next(wait.seconds for wait in waits(history, until) if wait.task == name)


def test_a_message_waits_from_its_publish_to_its_start_while_a_slot_is_free():
    assert wait_of("a", worker(), task("a", 5, 7.5, 8)) == pytest.approx(2.5)


def test_a_delayed_message_waits_from_when_it_is_due():
    delayed: list[Event] = [Submitted(at=5, task="a", queue="soak_a", due=7)]
    started: list[Event] = [Started(at=7.5, task="a", attempt=0, run="a", worker="w1", queue="soak_a")]
    assert wait_of("a", worker(), delayed, started) == pytest.approx(0.5)
    assert not list(waits(History.of([*worker(), *delayed]), until=6)), "it is not due"


def test_a_message_that_never_starts_waits_until_the_end():
    assert wait_of("a", worker(), task("a", 5), until=25) == pytest.approx(20)


def test_what_was_before_the_executions_are_known_does_not_count():
    events = [*worker(), *task("busy", 1, 2, 30), *task("waits", 3)]
    known = [event for event in events if getattr(event, "run", None) != "busy"]
    seconds = {wait.task: wait.seconds for wait in waits(History.of(known), until=40, since=32)}
    assert seconds["waits"] == pytest.approx(8)


def test_no_worker_no_slot():
    assert wait_of("a", worker(ready=6), task("a", 1, 6.25, 7)) == pytest.approx(0.25), "from when there is a worker"
    assert wait_of("a", worker(queue="soak_b"), task("a", 1)) == 0
    stopped: list[Event] = [Stopping(at=3, worker="w1")]
    assert wait_of("a", worker(), stopped, task("a", 2.5)) == pytest.approx(0.5), "until it is asked to stop"


def test_a_busy_slot_is_not_free_but_another_is():
    busy = task("long", 0, 0.1, 9)
    assert wait_of("a", worker(), busy, task("a", 1, 9.05, 9.1)) == 0
    assert wait_of("a", worker(slots=2), busy, task("a", 1, 9.05, 9.1)) == pytest.approx(8.05)
    assert wait_of("a", worker(), worker("w2"), busy, task("a", 1, 9.05, 9.1)) == pytest.approx(8.05)


def test_a_message_that_a_busy_worker_holds_while_another_is_idle_is_told_apart():
    busy = task("long", 0, 0.1, 9)
    parts = [worker(), worker("w2"), busy, task("held", 1, 9.05, 9.1), task("late", 1, 9.05, 9.1, on="w2")]
    found = waits(History.of(in_order(event for part in parts for event in part)), until=20)
    assert {wait.task: wait.prefetched for wait in found} == {"long": False, "held": True, "late": False}


def test_a_slot_is_busy_between_two_tasks_that_follow_closely():
    stream = [event for number in range(20) for event in task(f"b{number}", 0, number * 0.5, number * 0.5 + 0.4)]
    assert wait_of("a", worker(), stream, task("a", 0, 10, 11)) < 0.01
    with_a_gap = [event for number in range(20) for event in task(f"b{number}", 0, number * 0.5, number * 0.5 + 0.1)]
    assert wait_of("a", worker(), with_a_gap, task("a", 0, 10, 11)) == pytest.approx(0.4)


def test_nothing_counts_while_redis_is_down_and_just_after():
    outage: list[Event] = [RedisDown(at=5), RedisUp(at=8)]
    assert wait_of("a", worker(), outage, task("a", 9, 12, 13)) == pytest.approx(1), "3 s after its return"
    assert wait_of("a", worker(), outage, task("a", 4.5, 24, 25)) == pytest.approx(1), "it may have been claimed"


def test_a_message_that_a_killed_worker_may_have_held_is_excused_for_a_while():
    killed: list[Event] = [Killed(at=5, until=5.01, worker="w2")]
    both = [*worker(), *worker("w2"), *killed]
    assert wait_of("a", both, task("a", 4.9, 13, 14)) == pytest.approx(0.1)
    assert wait_of("a", both, task("a", 4.9, 15, 16)) == pytest.approx(1.99)
    assert wait_of("a", both, task("a", 5.1, 7, 8)) == pytest.approx(1.9), "nobody had it when the worker was killed"


def test_a_retry_waits_from_when_it_was_asked_for():
    first: list[Event] = [
        Submitted(at=0, task="a", queue="soak_a", due=0),
        Started(at=0, task="a", attempt=0, run="a0", worker="w1", queue="soak_a"),
        Ended(at=1, run="a0", outcome=Outcome.RETRY, due=3),
    ]
    again: list[Event] = [Started(at=4.5, task="a", attempt=1, run="a1", worker="w1", queue="soak_a")]
    found = {wait.attempt: wait.seconds for wait in waits(History.of([*worker(), *first, *again]), until=9)}
    assert found == {0: 0, 1: pytest.approx(1.5)}


def test_spans_of_time():
    assert union([(3, 4), (1, 2), (1.5, 2.5), (4, 5), (7, 7)]) == [(1, 2.5), (3, 5)]
    assert overlap([(1, 2), (3, 5), (6, 7)], (1.5, 4)) == [(1.5, 2), (3, 4)]
    assert overlap([(1, 9)], (2, 3)) == [(2, 3)]
    assert subtract([(1, 5), (6, 8)], [(0, 2), (3, 4), (7, 9)]) == [(2, 3), (4, 5), (6, 7)]
