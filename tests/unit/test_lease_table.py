"""The table that a worker shares with the process that renews its leases."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context

import pytest

from celeriac.broker.leases import Delivery
from celeriac.broker.table import CAPACITY, Entry, EntryState, LeaseTable
from tests.platform import wait_for


@pytest.fixture
def table() -> LeaseTable:
    return LeaseTable()


def deliveries(count: int, first: int = 1, queue: str = "q") -> list[Delivery]:
    return [Delivery(queue, tag) for tag in range(first, first + count)]


def held(table: LeaseTable) -> dict[int, EntryState]:
    """What the keeper reads, by tag."""
    return {entry.delivery.tag: entry.state for entry in table.entries()}


@contextmanager
def worker(work: Callable[[], None]) -> Iterator[int]:
    """A process that is forked from this one, as a worker is from its supervisor; killed at the end."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            signal.pause()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_new_table_is_empty_and_nothing_has_happened(table: LeaseTable):
    assert table.entries() == []
    assert table.room == CAPACITY
    assert table.consumed == []
    assert not table.stopping
    assert (table.busy, table.free_slots) == (0, 0)
    assert table.loop_turned_at == table.broker_answered_at == table.claimed_at == table.renewed_at == 0


def test_what_is_held_is_read_with_its_queue_and_its_tag(table: LeaseTable):
    tag = 1_795_339_133_000_001  # as Redis' clock gives them
    table.hold([Delivery("mail", tag), Delivery("data", tag + 1), Delivery("mail", tag + 2)])
    assert table.entries() == [
        Entry(Delivery("mail", tag), EntryState.HELD),
        Entry(Delivery("data", tag + 1), EntryState.HELD),
        Entry(Delivery("mail", tag + 2), EntryState.HELD),
    ]
    assert table.delivery(tag + 1) == Delivery("data", tag + 1)
    assert table.delivery(4711) is None


@pytest.mark.parametrize("state", sorted(set(EntryState) - {EntryState.FREE}))
def test_a_mark_is_read_and_leaves_queue_and_tag(table: LeaseTable, state: EntryState):
    table.hold([Delivery("mail", 1), Delivery("data", 2)])
    table.mark(2, state)
    assert table.entries() == [Entry(Delivery("mail", 1), EntryState.HELD), Entry(Delivery("data", 2), state)]
    assert table.delivery(2) == Delivery("data", 2)


def test_marking_or_dropping_what_is_not_held_does_nothing(table: LeaseTable):
    table.hold(deliveries(2))
    table.mark(4711, EntryState.SENDING)
    table.drop([4711, 1, 1])
    table.mark(1, EntryState.TO_RELEASE)
    assert held(table) == {2: EntryState.HELD}


def test_what_is_dropped_is_forgotten_and_leaves_its_place_to_others(table: LeaseTable):
    table.hold(deliveries(3))
    table.drop([1, 3])
    assert held(table) == {2: EntryState.HELD}
    assert table.room == CAPACITY - 1
    assert table.delivery(1) is None
    table.hold(deliveries(CAPACITY - 1, first=10))
    assert table.room == 0
    assert len(table.entries()) == CAPACITY


def test_a_table_holds_no_more_than_its_capacity_and_says_so(table: LeaseTable):
    table.hold(deliveries(CAPACITY))
    assert table.room == 0
    with pytest.raises(OverflowError, match=f"a worker holds {CAPACITY} messages at most"):
        table.hold([Delivery("q", CAPACITY + 1)])
    assert held(table).keys() == set(range(1, CAPACITY + 1))
    table.drop([7])
    table.hold([Delivery("q", CAPACITY + 1)])
    assert CAPACITY + 1 in held(table)


def test_what_the_keeper_has_done_is_no_longer_read_and_its_place_is_used_again(table: LeaseTable):
    table.hold(deliveries(CAPACITY))
    for tag in (2, 5):
        table.mark(tag, EntryState.TO_ACKNOWLEDGE)
    for entry in table.entries():
        if entry.state is EntryState.TO_ACKNOWLEDGE:
            table.done(entry)
    assert not held(table).keys() & {2, 5}
    table.hold(deliveries(2, first=CAPACITY + 1))
    assert table.room == 0
    assert held(table).keys() == set(range(1, CAPACITY + 3)) - {2, 5}
    assert table.delivery(2) is None


def test_a_full_table_has_room_again_when_the_keeper_has_done_all(table: LeaseTable):
    """A worker without room claims nothing, so that no further message would ever make it look."""
    table.hold(deliveries(CAPACITY))
    for entry in table.entries():
        table.done(entry)
    assert table.entries() == []
    assert table.room == CAPACITY
    table.hold(deliveries(CAPACITY, first=CAPACITY + 1))
    assert table.room == 0
    assert len(table.entries()) == CAPACITY


def test_what_both_have_ended_frees_one_place(table: LeaseTable):
    table.hold(deliveries(2))
    (first, _) = table.entries()
    table.done(first)
    table.drop([1])
    table.hold(deliveries(CAPACITY - 1, first=10))
    assert table.room == 0
    assert held(table).keys() == {2, *range(10, CAPACITY + 9)}


def test_a_tag_that_was_done_says_nothing_of_the_next_in_its_place(table: LeaseTable):
    table.hold([Delivery("mail", 1)])
    (entry,) = table.entries()
    table.done(entry)
    table.hold([Delivery("data", 2)])
    assert table.entries() == [Entry(Delivery("data", 2), EntryState.HELD)]
    table.done(entry)
    assert table.entries() == [Entry(Delivery("data", 2), EntryState.HELD)]


def test_the_consumed_queues_are_those_of_the_last_time(table: LeaseTable):
    table.consume(["mail", "data"])
    assert table.consumed == ["data", "mail"]
    table.hold([Delivery("other", 1)])
    assert table.consumed == ["data", "mail"]
    table.consume([])
    assert table.consumed == []
    assert held(table) == {1: EntryState.HELD}


def test_names_of_queues_may_be_any_text(table: LeaseTable):
    names = ['with "quotes"', "üñï", "a\\b", "", "celery@host.pidbox"]
    table.consume(names)
    table.hold([Delivery(name, tag) for tag, name in enumerate(names, start=1)])
    assert table.consumed == sorted(names)
    assert [entry.delivery.queue for entry in table.entries()] == names


def test_a_queue_whose_name_has_no_room_is_refused_each_time(table: LeaseTable):
    """Or its messages would be held by a worker whose keeper could not read them."""
    table.hold([Delivery("short", 1)])
    for _ in range(2):
        with pytest.raises(OverflowError, match="8192 bytes at most"):
            table.hold([Delivery("long" * 3000, 2)])
    assert held(table) == {1: EntryState.HELD}
    table.hold([Delivery("other", 3)])
    assert table.entries()[-1] == Entry(Delivery("other", 3), EntryState.HELD)


def test_a_reader_that_finds_no_names_keeps_those_it_knew(table: LeaseTable):
    table.consume(["mail"])
    table.hold([Delivery("mail", 1)])
    assert table.consumed == ["mail"]
    table._text[:3] = b"[[["
    assert table.consumed == ["mail"]
    assert table.entries() == [Entry(Delivery("mail", 1), EntryState.HELD)]


def test_vital_signs_are_of_the_monotonic_clock(table: LeaseTable):
    before = time.monotonic()
    table.turned(busy=3, free_slots=1)
    table.answered(0)
    assert before <= table.loop_turned_at <= table.broker_answered_at <= time.monotonic()
    assert (table.busy, table.free_slots, table.claimed_at) == (3, 1, 0)
    table.answered(2)
    assert table.claimed_at == table.broker_answered_at >= before
    table.renewed(before)
    assert table.renewed_at == before


def test_a_worker_and_its_keeper_in_two_processes_see_the_same(table: LeaseTable):
    def work() -> None:
        table.consume(["mail"])
        table.hold([Delivery("mail", 1), Delivery("data", 2), Delivery("data", 3)])
        table.drop([1])
        table.mark(3, EntryState.TO_RELEASE)
        table.turned(busy=2, free_slots=0)
        while not table.stopping:
            time.sleep(0.01)
        table.hold([Delivery("late", 4)])

    expected = [Entry(Delivery("data", 2), EntryState.HELD), Entry(Delivery("data", 3), EntryState.TO_RELEASE)]
    with worker(work):
        wait_for(lambda: table.busy == 2, "the worker's loop to turn")
        assert table.entries() == expected
        assert table.consumed == ["mail"]
        table.done(table.entries()[1])
        table.stop()
        wait_for(lambda: len(table.entries()) == 2, "the worker to hold one more")
    assert {entry.delivery for entry in table.entries()} == {Delivery("data", 2), Delivery("late", 4)}, (
        "a killed worker leaves what it held"
    )


def test_the_worker_uses_again_what_the_keeper_in_another_process_has_done(table: LeaseTable):
    go_on = get_context("fork").Event()

    def work() -> None:
        table.hold(deliveries(CAPACITY))
        go_on.wait(30)
        table.hold(deliveries(table.room, first=CAPACITY + 1))

    with worker(work):
        wait_for(lambda: len(table.entries()) == CAPACITY, "a full table")
        for entry in table.entries():
            table.done(entry)
        assert table.entries() == []
        go_on.set()
        wait_for(lambda: len(table.entries()) == CAPACITY, "a table that is full once more")
    assert held(table).keys() == set(range(CAPACITY + 1, 2 * CAPACITY + 1))


def test_a_keeper_never_takes_the_tag_of_one_queue_for_that_of_another(table: LeaseTable):
    """It reads while the worker writes: a place may change its owner in between."""

    def queue_of(tag: int) -> str:
        return f"q{tag % 7}"

    def work() -> None:
        tag, mine, order = 0, [], random.Random(1)
        while True:
            table.hold(Delivery(queue_of(new), new) for new in range(tag, tag + 8))
            mine += range(tag, tag + 8)
            tag += 8
            if len(mine) > 200:
                order.shuffle(mine)
                table.drop(mine[:100])
                del mine[:100]

    with worker(work):
        read = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline or read < 10_000:
            for entry in table.entries():
                assert entry.delivery.queue == queue_of(entry.delivery.tag)
                read += 1
