"""Who gives up a message is kept from nothing else by those who are told of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from celeriac.broker.leases import DeathNotice, DeathPending, Delivery
from celeriac.results import deaths
from celeriac.results.deaths import Deaths
from tests.platform import wait_for


def notice(task_id: object = "one", tag: int = 1) -> DeathNotice:
    message = {"headers": {"id": task_id, "task": "examples.add"}, "properties": {"delivery_info": {}}, "body": ""}
    return DeathNotice(Delivery("default", tag), message, "rejected", "")


class Listener:
    """Ends tasks when it is let."""

    def __init__(self) -> None:
        self.told: list[DeathNotice] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, notice: DeathNotice) -> None:
        self.told.append(notice)
        assert self.may_end.wait(10)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.may_end.set()


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "_PATIENCE_SECONDS", 0.2)


def tell_until_done(tell: Deaths, notice: DeathNotice) -> None:
    def is_done() -> bool:
        try:
            tell(notice)
        except DeathPending:
            return False
        return True

    wait_for(is_done, "the end of the task")


def test_what_follows_a_death_is_done_before_the_message_is_moved(listener: Listener):
    tell_until_done(Deaths(listener), notice())
    assert listener.told == [notice()]


def test_a_death_that_takes_longer_is_told_again_and_done_once(listener: Listener):
    tell = Deaths(listener)
    listener.may_end.clear()
    for _ in range(3):
        with pytest.raises(DeathPending):
            tell(notice())
    listener.may_end.set()
    tell_until_done(tell, notice())
    assert len(listener.told) == 1


def test_a_task_that_was_replayed_and_dies_again_is_ended_again(listener: Listener):
    """Also where nobody has asked for the first death any more: another process has seen to it."""
    tell = Deaths(listener)
    listener.may_end.clear()
    with pytest.raises(DeathPending):
        tell(notice(tag=1))
    listener.may_end.set()
    tell_until_done(tell, notice(tag=2))
    assert len(listener.told) == 2


def test_a_death_that_takes_longer_keeps_no_other_waiting(listener: Listener):
    tell = Deaths(listener)
    listener.may_end.clear()
    with pytest.raises(DeathPending):
        tell(notice("one", tag=1))
    listener.may_end.set()
    tell_until_done(tell, notice("two", tag=2))
    tell_until_done(tell, notice("one", tag=1))
    assert len(listener.told) == 2


def test_an_error_on_the_way_keeps_no_message_from_being_given_up():
    def fails(_notice: DeathNotice) -> None:
        raise OSError

    tell = Deaths(fails)
    tell_until_done(tell, notice("one"))
    tell_until_done(tell, notice("two", tag=2))


@pytest.mark.parametrize("task_id", [None, 5, ["one"]])
def test_a_message_that_names_no_task_ends_none(listener: Listener, task_id: object):
    Deaths(listener)(notice(task_id))
    Deaths(listener)(DeathNotice(Delivery("default", 1), None, "it is no message", "b'garbage'"))
    assert listener.told == []


def test_a_death_that_is_never_asked_for_again_is_forgotten(listener: Listener, monkeypatch: pytest.MonkeyPatch):
    tell = Deaths(listener)
    listener.may_end.clear()
    with pytest.raises(DeathPending):
        tell(notice("one", tag=1))
    listener.may_end.set()
    tell_until_done(tell, notice("two", tag=2))
    wait_for(lambda: "death" not in {thread.name for thread in threading.enumerate()}, "the first to be done, too")
    monkeypatch.setattr(deaths, "_PATIENCE_SECONDS", 10)
    monkeypatch.setattr(deaths, "_REMEMBERED_SECONDS", 0)
    tell(notice("three", tag=3))
    tell(notice("one", tag=1))
    assert len(listener.told) == 4
