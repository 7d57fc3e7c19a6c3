"""The scripts against a model: whatever happens in whatever order, each message is in exactly one place.

A failure prints the steps that lead to it, a blob to replay them, and the seed of the run.
`CELERIAC_TEST_EXAMPLES=5000` looks longer, `CELERIAC_TEST_SEED` again at the same.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import pytest
import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celeriac.broker import Keys, messages, scripts
from celeriac.broker.leases import LEASE_SECONDS, POLICY, TEND_SECONDS, DeathNotice, DeathPending, Delivery, Leases
from celeriac.broker.pauses import Pauses
from celeriac.broker.publication import Publication
from celeriac.broker.purge import Purge
from celeriac.results import Records
from tests.broker import Clock, claimed, inflight, message

LEASE_MS = int(LEASE_SECONDS * 1000)

#: The queues, and the deliveries after which each gives a message up.
LIMITS = {"alpha": 1, "beta": 3}
QUEUES = tuple(LIMITS)
WORKERS = 3

#: Few task ids and priorities, so that several messages meet in one place.
TASK_IDS = ("one", "two", "three")
PRIORITIES = (0, 5, 5, 5, 9)

#: From now, ms.
DUE = st.sampled_from((-1000, 0, 1, 400, 2000, 7000, 3_600_000))

PAUSES = st.sampled_from((0.0005, 0.4, 1.0, 2.5, LEASE_SECONDS + 0.001, 20.0, 4000.0))

#: One of several things, by its place; what there is now comes before what is over.
PLACE = st.integers(0, 11)


#: What somebody else does with a delivery while its death is told.
MEANWHILE = st.sampled_from((None, None, "acknowledge", "release", "renew", "reap", "wait"))


@dataclass(eq=False)
class Message:
    """A message as it is to be found, wherever it is."""

    number: int
    content: dict[str, Any]

    @property
    def deliveries(self) -> int:
        return int(self.content["headers"].get("x-delivery-count", 0))

    def count(self) -> None:
        self.content["headers"]["x-delivery-count"] = self.deliveries + 1

    @property
    def may_be_part_of_a_chord(self) -> bool:
        headers = self.content["headers"]
        return "id" in headers and bool(headers.get("group"))

    @property
    def waiting_id(self) -> str:
        return messages.waiting_id(self.content)

    def __repr__(self) -> str:
        return f"<{self.number}>"


@dataclass
class Lease:
    """Where the model has a message that is in flight."""

    message: Message
    queue: str
    list: str
    end_ms: int
    started: bool


@dataclass
class Model:
    """Where every message is; it is in one place only, for whoever puts it there takes it from elsewhere."""

    #: By the name of the list; the last is the next.
    ready: dict[str, list[Message]] = field(default_factory=dict)
    leased: dict[int, Lease] = field(default_factory=dict)
    #: By queue and the id it waits under: due time, ms, list and message.
    delayed: dict[str, dict[str, tuple[int, str, Message]]] = field(default_factory=lambda: {q: {} for q in QUEUES})
    #: By queue, the newest first: message, list, deliveries.
    dead: dict[str, list[tuple[Message, str, int]]] = field(default_factory=lambda: {q: [] for q in QUEUES})
    done: list[Message] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)

    def put_last(self, name: str, message: Message) -> None:
        self.ready.setdefault(name, []).insert(0, message)

    def put_next(self, name: str, message: Message) -> None:
        self.ready.setdefault(name, []).append(message)

    def wait(self, queue: str, name: str, message: Message, due_ms: int, now_us: int) -> None:
        waiting = self.delayed[queue]
        task_id = message.waiting_id
        waiting[f"{task_id}#{now_us}" if task_id in waiting else task_id] = (due_ms, name, message)

    def all(self) -> list[Message]:
        return [
            *(message for messages in self.ready.values() for message in messages),
            *(lease.message for lease in self.leased.values()),
            *(message for waiting in self.delayed.values() for _, _, message in waiting.values()),
            *(message for letters in self.dead.values() for message, _, _ in letters),
            *self.done,
        ]


class Broker(RuleBasedStateMachine):
    """What publishers, workers and keepers do to one Redis."""

    client: redis.Redis
    raw_client: redis.Redis
    _prefixes = count()

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(f"example{next(self._prefixes)}:")
        self.clock = Clock(self.client)
        self.leases = Leases(self.client, self.keys, clock=self.clock.lua)
        self.keepers = [self.leases, *(Leases(self.client, self.keys, clock=self.clock.lua) for _ in range(2))]
        #: The due time that a keeper was told, ms, and which.
        self.awaited: tuple[int, set[int]] = (0, set())
        self.records = Records(self.client, self.keys, expires_seconds=60, unfinished_expires_seconds=60)
        self.pauses = Pauses(self.client, self.keys)
        self.purges = Purge(self.raw_client, self.keys, expires_seconds=60, clock=self.clock.lua)
        self.replay = self.client.register_script(scripts.source("replay"))
        self.model = Model()
        self.published = 0
        self.last_tag = 0
        #: All deliveries, and the ends of leases that a keeper has seen; the newest first.
        self.known: list[Delivery] = []
        self.seen: list[tuple[Delivery, str]] = []
        #: What each worker believes to hold.
        self.held: dict[int, set[Delivery]] = {worker: set() for worker in range(WORKERS)}
        #: By task id, until when it is revoked, s.
        self.revoked: dict[str, float] = {}
        #: The messages whose death was told.
        self.told: set[int] = set()
        #: What somebody else does when a death is told.
        self.meanwhile: Callable[[], None] | None = None
        self._policy = POLICY.limits, POLICY.listener
        POLICY.limits, POLICY.listener = LIMITS, self._listen

    def teardown(self) -> None:
        POLICY.limits, POLICY.listener = self._policy
        keys = self.client.keys(f"{self.keys.prefix}*")
        if keys:
            self.client.delete(*keys)

    def _listen(self, notice: DeathNotice) -> None:
        assert notice.message is not None
        self.told.add(_number(notice.message))
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    # Publishers

    @initialize()
    def begin_with_something(self) -> None:
        for queue in QUEUES:
            for priority in (5, 5, 5, 9):
                self._publish(queue, priority, None, {"id": "one"})
        self._claim(0, list(QUEUES), 3, marks_starts=False)
        self._claim(1, list(QUEUES), 2, marks_starts=True)

    @rule(
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from(PRIORITIES),
        due=st.none() | DUE,
        task_id=st.none() | st.sampled_from(TASK_IDS),
        deliveries=st.sampled_from((None, None, 0, 1)),
        group=st.sampled_from((None, None, "some")),
        copies=st.integers(1, 3),
    )
    def publish(
        self,
        queue: str,
        priority: int,
        due: int | None,
        task_id: str | None,
        deliveries: int | None,
        group: str | None,
        copies: int,
    ) -> None:
        headers: dict[str, Any] = {"group": group} if task_id is None else {"id": task_id, "group": group}
        if deliveries is not None:
            headers["x-delivery-count"] = deliveries
        for _ in range(copies):
            self._publish(queue, priority, due, headers)

    def _publish(self, queue: str, priority: int, due: int | None, headers: dict[str, Any]) -> None:
        self.clock.go_on(0)
        self.published += 1
        raw = message(str(self.published), headers=headers, delivery_tag=f"d{self.published}")
        published = Message(self.published, json.loads(raw))
        due_ms = None if due is None else self.clock.ms + due
        self.leases.publish(Publication(queue, raw, priority=priority, due_ms=due_ms, waiting_id=published.waiting_id))
        name = self.keys.ready(queue, priority)
        if due_ms is not None and due_ms > self.clock.us / 1000:
            self.model.wait(queue, name, published, due_ms, self.clock.us)
        else:
            self.model.put_last(name, published)

    # Workers

    @rule(
        worker=st.integers(0, WORKERS - 1),
        queues=st.permutations(QUEUES).flatmap(lambda names: st.sampled_from([names, names[:1]])),
        wanted=st.integers(0, 5),
        marks_starts=st.booleans(),
        no_ack=st.sampled_from(((), (), (), QUEUES[:1])),
    )
    def claim(self, worker: int, queues: list[str], wanted: int, marks_starts: bool, no_ack: tuple[str, ...]) -> None:
        self._claim(worker, queues, wanted, marks_starts=marks_starts, no_ack=no_ack)

    def _claim(
        self, worker: int, queues: list[str], wanted: int, *, marks_starts: bool, no_ack: tuple[str, ...] = ()
    ) -> list[Delivery]:
        self.clock.go_on(0)
        now = self.clock.us / 1_000_000
        before = {name: list(ready) for name, ready in self.model.ready.items()}
        answer = claimed(self.leases.claim(queues, wanted, no_ack=no_ack, marks_starts=marks_starts), queues)
        taken: list[tuple[int, str]] = []
        leased = []
        for delivery, revoked, raw in answer:
            assert delivery.tag > self.last_tag, "a tag is larger than all before"
            self.last_tag = delivery.tag
            number = _number(json.loads(raw))
            name, priority = self._next_of(delivery.queue, number)
            taken.append((priority, delivery.queue))
            claimed_message = self.model.ready[name].pop()
            assert revoked is (self.revoked.get(claimed_message.content["headers"].get("id", ""), 0) > now)
            if delivery.queue in no_ack:
                self.model.done.append(claimed_message)
                continue
            self.model.leased[delivery.tag] = Lease(
                claimed_message, delivery.queue, name, self.clock.ms + LEASE_MS, started=not marks_starts
            )
            self.held[worker].add(delivery)
            self.known.insert(0, delivery)
            leased.append(delivery)
        self._check_shares(queues, wanted, taken, before)
        self.clock.go_on(len(answer) / 1_000_000)  # a real script takes longer than that
        return leased

    def _next_of(self, queue: str, number: int) -> tuple[str, int]:
        for priority in range(10):
            ready = self.model.ready.get(self.keys.ready(queue, priority))
            if ready and ready[-1].number == number:
                return self.keys.ready(queue, priority), priority
        pytest.fail(f"message {number} is not the next of any list of queue {queue}")

    def _check_shares(
        self, queues: list[str], wanted: int, taken: list[tuple[int, str]], before: dict[str, list[Message]]
    ) -> None:
        there = {
            (priority, queue): len(before.get(self.keys.ready(queue, priority), []))
            for priority in range(10)
            for queue in queues
            if queue not in self.model.paused
        }
        assert not {queue for _, queue in taken} & self.model.paused
        queues = [queue for queue in queues if queue not in self.model.paused]
        assert len(taken) == min(wanted, sum(there.values()))
        priorities = [priority for priority, _ in taken]
        assert priorities == sorted(priorities, reverse=True)
        for priority in range(10):
            got = {queue: taken.count((priority, queue)) for queue in queues}
            left = {queue: there[priority, queue] - got[queue] for queue in queues}
            if any(left.values()):
                assert not any(lower < priority for lower in priorities)
            for queue in queues:
                if left[queue]:
                    assert got[queue] >= max(got.values()) - 1, "queues share what there is of a priority"

    def _delivery(self, place: int) -> Delivery:
        leased = [delivery for delivery in self.known if delivery.tag in self.model.leased]
        over = [delivery for delivery in self.known if delivery.tag not in self.model.leased]
        return (leased + over)[place % len(self.known)]

    @precondition(lambda self: self.known)
    @rule(place=PLACE)
    def begin(self, place: int) -> None:
        """Start a task, of which nothing is recorded."""
        delivery = self._delivery(place)
        lease = self.model.leased.get(delivery.tag)
        outcome = self.records.begin("unknown", delivery, retries=0, worker="w", started=None)
        assert outcome == ("run" if lease else "lost")
        if lease:
            lease.started = True

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=st.integers(0, WORKERS - 1))
    def renew(self, worker: int) -> None:
        self._renew(self.held[worker])

    def _renew(self, held: set[Delivery]) -> None:
        self.clock.go_on(0)
        lost = self.leases.renew(held)
        assert lost == {delivery.tag for delivery in held} - self.model.leased.keys()
        for delivery in held:
            if lease := self.model.leased.get(delivery.tag):
                lease.end_ms = self.clock.ms + LEASE_MS

    @precondition(lambda self: self.known)
    @rule(places=st.sets(PLACE, min_size=1, max_size=3))
    def acknowledge(self, places: set[int]) -> None:
        self._acknowledge(list(dict.fromkeys(self._delivery(place) for place in places)))

    def _acknowledge(self, chosen: list[Delivery]) -> None:
        refused = self.leases.acknowledge(chosen)
        assert refused == {delivery.tag for delivery in chosen} - self.model.leased.keys()
        for delivery in chosen:
            if lease := self.model.leased.pop(delivery.tag, None):
                self.model.done.append(lease.message)
            self._drop(delivery)

    @precondition(lambda self: self.known)
    @rule(place=PLACE, started=st.sampled_from(("return", "leave")))
    def release(self, place: int, started: Literal["return", "leave"]) -> None:
        self._release(self._delivery(place), started)

    def _release(self, delivery: Delivery, started: Literal["return", "leave"] = "return") -> None:
        lease = self.model.leased.get(delivery.tag)
        is_left = lease is not None and lease.started and started == "leave"
        assert self.leases.release(delivery, started=started) is not is_left
        if is_left:
            return
        if lease:
            del self.model.leased[delivery.tag]
            self.model.put_next(lease.list, lease.message)
        self._drop(delivery)

    @precondition(lambda self: self.known)
    @rule(place=PLACE, side=st.sampled_from(("head", "tail")))
    def reject(self, place: int, side: str) -> None:
        delivery = self._delivery(place)
        expected = self._expect_given_up(delivery, side=side)
        assert self.leases.give_up(delivery, "rejected", side=side) == expected
        self._drop(delivery)

    @precondition(lambda self: self.known)
    @rule(place=PLACE)
    def bury(self, place: int) -> None:
        delivery = self._delivery(place)
        lease = self.model.leased.get(delivery.tag)
        if lease:
            self._expect_death(delivery, lease)
        assert self.leases.bury(delivery, "rejected") is (lease is not None)
        self._drop(delivery)

    @precondition(lambda self: self.known)
    @rule(place=PLACE, due=DUE)
    def postpone(self, place: int, due: int) -> None:
        self.clock.go_on(0)
        delivery = self._delivery(place)
        due_ms = self.clock.ms + due
        lease = self.model.leased.get(delivery.tag)
        waiting_id = lease.message.waiting_id if lease else "gone"
        is_due = lease is not None and due_ms <= self.clock.us / 1000
        assert self.leases.postpone(delivery, due_ms, waiting_id) is not is_due
        if is_due:
            return
        if lease:
            del self.model.leased[delivery.tag]
            self.model.wait(lease.queue, lease.list, lease.message, due_ms, self.clock.us)
        self._drop(delivery)

    @rule(worker=st.integers(0, WORKERS - 1))
    def work(self, worker: int) -> None:
        """A worker takes some and starts them."""
        self._claim(worker, list(QUEUES), 4, marks_starts=False)

    # What may happen besides

    @rule(queue=st.sampled_from(QUEUES), heard=st.none() | st.integers(0, 2))
    def purge(self, queue: str, heard: int | None) -> None:
        """Of what may be part of a chord somebody is told, who may fail; or, with None, nobody is."""
        self.clock.go_on(0)
        waiting = self.model.delayed[queue].items()
        in_order = sorted(waiting, key=lambda item: (item[1][0], item[0].encode()))
        steps = [[(name, each) for _, (_, name, each) in in_order]]
        steps += [[(name, each) for each in self.model.ready.get(name, [])] for name in self.keys.ready_lists(queue)]
        told: list[int] = []

        def tell(raw: bytes) -> None:
            if len(told) == heard:
                raise ConnectionError
            told.append(_number(json.loads(raw)))

        try:
            dropped = self.purges(queue, None if heard is None else tell)
        except ConnectionError:
            dropped = None
        assert dropped in {None, sum(map(len, steps))}
        expected_told = 0
        for number, step in enumerate(steps):
            parts = [pair for pair in step if pair[1].may_be_part_of_a_chord and heard is not None]
            expected_told += len(parts)
            for name, each in step:
                self._take_away(queue, name, each, was_delayed=number == 0)
                if (name, each) not in parts:
                    self.model.done.append(each)
            if heard is not None and expected_told > heard:
                assert dropped is None
                self._lease(queue, parts)
                break
            self.model.done += [each for _, each in parts]
        else:
            assert dropped is not None
            assert len(told) == expected_told

    def _take_away(self, queue: str, name: str, message: Message, *, was_delayed: bool) -> None:
        if was_delayed:
            waiting = self.model.delayed[queue]
            del waiting[next(task_id for task_id, (_, _, each) in waiting.items() if each is message)]
        else:
            self.model.ready[name].remove(message)

    def _lease(self, queue: str, messages: list[tuple[str, Message]]) -> None:
        tags = {_number(json.loads(raw)): tag for tag, (_, _, raw) in inflight(self.client, self.keys).items()}
        for name, each in messages:
            tag = tags[each.number]
            self.model.leased[tag] = Lease(each, queue, name, self.clock.ms + LEASE_MS, started=False)
            self.known.insert(0, Delivery(queue, tag))
            self.last_tag = max(self.last_tag, tag)
        self.clock.go_on(len(messages) / 1_000_000)

    @rule(queue=st.sampled_from(QUEUES))
    def pause(self, queue: str) -> None:
        assert self.pauses.pause(queue) is (queue not in self.model.paused)
        self.model.paused.add(queue)

    @rule(queue=st.sampled_from(QUEUES))
    def resume(self, queue: str) -> None:
        assert self.pauses.resume(queue) is (queue in self.model.paused)
        self.model.paused.discard(queue)

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=st.integers(0, WORKERS - 1))
    def crash(self, worker: int) -> None:
        """A worker is killed, or never hears of what it has claimed: it renews nothing any more."""
        self.held[worker].clear()

    @rule(task_id=st.sampled_from(TASK_IDS), seconds=st.sampled_from((1, 60)))
    def revoke(self, task_id: str, seconds: int) -> None:
        self.revoked[task_id] = self.clock.us / 1_000_000 + seconds
        self.client.zadd(self.keys.revoked, {task_id: self.revoked[task_id]})

    @rule(is_deleted=st.booleans())
    def forget_the_last_tag(self, is_deleted: bool) -> None:
        """Redis comes back without its last second."""
        seq = f"{self.keys.prefix}celeriac:seq"
        if is_deleted:
            self.client.delete(seq)
        elif self.client.exists(seq):
            self.client.decrby(seq, 1_000_000)

    # Keepers

    @rule(seconds=PAUSES, place=st.none() | PLACE, offset_ms=st.sampled_from((-1, 0, 1)), looks=st.booleans())
    def let_time_pass(self, seconds: float, place: int | None, offset_ms: int, looks: bool) -> None:
        """For so long, or until a lease ends or something is due, or a millisecond before that or after."""
        moments = self._moments()
        if place is None or not moments:
            self.clock.go_on(seconds)
        else:
            self.clock.go_to(max(self.clock.us + 1, (moments[place % len(moments)] + offset_ms) * 1000))
        if looks:
            self._tend()

    def _moments(self) -> list[int]:
        ends = {lease.end_ms for lease in self.model.leased.values()}
        due = {due_ms for waiting in self.model.delayed.values() for due_ms, _, _ in waiting.values()}
        return sorted(moment for moment in ends | due if moment > self.clock.ms + 1)

    @rule(keeper=st.integers(0, 2))
    def tend(self, keeper: int) -> None:
        self._tend(keeper)

    def _tend(self, keeper: int = 0) -> list[tuple[Delivery, str]]:
        now = self.clock.ms
        waits = []
        for waiting in self.model.delayed.values():
            for name, (due, list_name, due_message) in sorted(
                waiting.items(), key=lambda item: (item[1][0], item[0].encode())
            ):
                if due <= now:
                    del waiting[name]
                    self.model.put_last(list_name, due_message)
                else:
                    waits.append(due - now)
        tended = self.keepers[keeper].tend()
        assert tended.next_due_seconds == self._expect_told(keeper, min(waits, default=None))
        assert tended.ended == {
            Delivery(lease.queue, tag): str(lease.end_ms)
            for tag, lease in self.model.leased.items()
            if lease.end_ms < now
        }
        seen = sorted(tended.ended.items(), key=lambda item: item[0].tag)
        self.seen = [*seen, *(each for each in self.seen if each not in seen)]
        return seen

    def _expect_told(self, keeper: int, wait_ms: int | None) -> float | None:
        """Of what is due before the next look, two keepers are told."""
        if wait_ms is None:
            return None
        if wait_ms < TEND_SECONDS * 1000:
            due_ms, (awaited_ms, told) = self.clock.ms + wait_ms, self.awaited
            if not self.clock.ms < awaited_ms <= due_ms:
                self.awaited = (due_ms, {keeper})
            elif len(told | {keeper}) > 2:
                return None
            else:
                told.add(keeper)
        return wait_ms / 1000

    @precondition(lambda self: self.seen)
    @rule(place=PLACE, meanwhile=MEANWHILE)
    def reap(self, place: int, meanwhile: str | None) -> None:
        """Return what was seen ended, perhaps long ago; while a death is told, somebody else goes on."""
        self._reap(*self.seen[place % len(self.seen)], meanwhile)

    def _reap(self, delivery: Delivery, end: str, meanwhile: str | None = None) -> None:
        lease = self.model.leased.get(delivery.tag)
        if lease is None or str(lease.end_ms) != end or lease.end_ms >= self.clock.us / 1000:
            expected = None
        elif self._is_last(lease):
            # One keeper takes the lease over before it tells of the death.
            lease.end_ms = self.clock.ms + LEASE_MS
            self.meanwhile = lambda: self._go_on(meanwhile, delivery, end)
            expected = "dead" if meanwhile in {None, "renew", "reap"} else None
        else:
            expected = self._expect_given_up(delivery)
        try:
            assert self.leases.give_up(delivery, "expired", ended=end) == expected
        except DeathPending:
            return
        if expected == "dead":
            self._expect_death(delivery, self.model.leased[delivery.tag])

    @rule(renewing=st.sets(st.integers(0, WORKERS - 1)), pause=PAUSES, meanwhile=MEANWHILE)
    def look_twice(self, renewing: set[int], pause: float, meanwhile: str | None) -> None:
        """A keeper looks when leases have ended, and again later; some workers were only paused."""
        self.clock.go_on(LEASE_SECONDS + 0.001)
        seen = self._tend()
        for worker in renewing:
            self._renew(self.held[worker])
        self.clock.go_on(pause)
        for each in seen:
            self._reap(*each, meanwhile)

    def _go_on(self, what: str | None, delivery: Delivery, end: str) -> None:
        if what == "acknowledge":
            self._acknowledge([delivery])
        elif what == "release":
            self._release(delivery)
        elif what == "renew":
            self._renew({delivery})
        elif what == "reap":
            assert self.leases.give_up(delivery, "expired", ended=end) is None, "there is one that tells of a death"
        elif what == "wait":
            raise DeathPending

    @precondition(lambda self: any(self.model.dead.values()))
    @rule(queue=st.sampled_from(QUEUES), index=st.integers(0, 3), drops=st.booleans())
    def replay_or_drop(self, queue: str, index: int, drops: bool) -> None:
        letter = self.client.lindex(self.keys.dead(queue), index)
        letters = self.model.dead[queue]
        assert (letter is None) is (index >= len(letters))
        if letter is None:
            return
        back, name, _ = letters.pop(index)
        to, raw = ("", "") if drops else (name, json.loads(letter)["message"])
        assert self.replay(args=[self.keys.prefix, queue, letter, to, raw, ""]) == 1
        assert self.replay(args=[self.keys.prefix, queue, letter, to, raw, ""]) == 0
        if drops:
            self.model.done.append(back)
        else:
            back.content["headers"]["x-delivery-count"] = 0
            self.model.put_last(name, back)

    @precondition(lambda self: self.published > 30)
    @rule()
    def come_to_an_end(self) -> None:
        """Whatever has happened: with time, and workers that live, each message is run or given up."""
        for queue in QUEUES:
            self.resume(queue)
        for _ in range(max(LIMITS.values()) + 1):
            self.clock.go_on(4000)
            for each in self._tend():
                self._reap(*each)
            self._acknowledge(self._claim(0, list(QUEUES), 100, marks_starts=False))
        assert not any(self.model.ready.values())
        assert not self.model.leased
        assert not any(self.model.delayed.values())

    # What holds after every step

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        assert sorted(each.number for each in self.model.all()) == list(range(1, self.published + 1))

    @invariant()
    def every_death_was_told(self) -> None:
        assert {message.number for letters in self.model.dead.values() for message, _, _ in letters} <= self.told

    @invariant()
    def redis_is_as_the_model(self) -> None:
        keys, model = self.keys, self.model
        lists = [name for queue in QUEUES for name in keys.ready_lists(queue)]
        with self.client.pipeline(transaction=False) as pipe:
            for name in lists:
                pipe.lrange(name, 0, -1)
            for queue in QUEUES:
                pipe.zrange(keys.leases(queue), 0, -1, withscores=True)
                pipe.zrange(keys.delayed(queue), 0, -1, withscores=True)
                pipe.hgetall(keys.delayed_messages(queue))
                pipe.lrange(keys.dead(queue), 0, -1)
                pipe.llen(keys.wake(queue))
            pipe.smembers(keys.started)
            pipe.keys(f"{keys.prefix}*")
            answers = iter(pipe.execute())
        for name in lists:
            assert [json.loads(raw) for raw in next(answers)] == [each.content for each in model.ready.get(name, [])]
        for queue in QUEUES:
            leases = {tag: lease for tag, lease in model.leased.items() if lease.queue == queue}
            assert dict(next(answers)) == {str(tag): lease.end_ms for tag, lease in leases.items()}
            waiting = model.delayed[queue]
            assert dict(next(answers)) == {name: due for name, (due, _, _) in waiting.items()}
            bodies = {name: body.split("\n", 1) for name, body in next(answers).items()}
            assert {name: (each, json.loads(raw)) for name, (each, raw) in bodies.items()} == {
                name: (list_name, each.content) for name, (_, list_name, each) in waiting.items()
            }
            letters = [json.loads(letter) for letter in next(answers)]
            assert [(json.loads(letter["message"]), letter["list"], letter["deliveries"]) for letter in letters] == [
                (each.content, name, deliveries) for each, name, deliveries in model.dead[queue]
            ]
            assert len({letter["died_ms"] for letter in letters}) == len(letters)
            tokens = next(answers)
            if queue in model.paused:
                assert tokens == 0, "nobody is woken in vain"
            elif any(model.ready.get(name) for name in keys.ready_lists(queue)):
                assert tokens > 0, "whoever waits for a message is woken"
        assert next(answers) == {str(tag) for tag, lease in model.leased.items() if lease.started}
        assert {
            tag: (list_name, json.loads(raw)) for tag, (_, list_name, raw) in inflight(self.client, keys).items()
        } == {tag: (lease.list, lease.message.content) for tag, lease in model.leased.items()}
        assert self._strangers(next(answers)) == set()

    def _strangers(self, found: list[str]) -> set[str]:
        keys = self.keys
        known = {keys.inflight, keys.started, keys.queues, keys.revoked, keys.wake_mover, keys.awaited}
        known.add(keys.paused)
        known.add(f"{keys.prefix}celeriac:seq")
        for queue in QUEUES:
            known |= {*keys.ready_lists(queue), keys.leases(queue), keys.delayed(queue)}
            known |= {keys.delayed_messages(queue), keys.dead(queue), keys.wake(queue)}
        return set(found) - known

    # The model's own steps

    def _is_last(self, lease: Lease) -> bool:
        return lease.started and lease.message.deliveries + 1 >= LIMITS[lease.queue]

    def _expect_given_up(self, delivery: Delivery, side: str = "head") -> str | None:
        lease = self.model.leased.get(delivery.tag)
        if lease is None:
            return None
        if self._is_last(lease):
            self._expect_death(delivery, lease)
            return "dead"
        del self.model.leased[delivery.tag]
        if lease.started:
            lease.message.count()
        put = self.model.put_next if side == "head" else self.model.put_last
        put(lease.list, lease.message)
        return "returned"

    def _expect_death(self, delivery: Delivery, lease: Lease) -> None:
        del self.model.leased[delivery.tag]
        deliveries = lease.message.deliveries + lease.started
        self.model.dead[lease.queue].insert(0, (lease.message, lease.list, deliveries))

    def _drop(self, delivery: Delivery) -> None:
        for held in self.held.values():
            held.discard(delivery)


def _number(content: dict[str, Any]) -> int:
    return int(content["properties"]["delivery_tag"].removeprefix("d"))


@pytest.mark.timeout(0)  # as many examples as are asked for, and a failing one is made small
def test_no_message_is_lost_or_doubled_whatever_happens_in_whatever_order(redis_url: str):
    examples = int(os.environ.get("CELERIAC_TEST_EXAMPLES", "80"))
    number = int(os.environ.get("CELERIAC_TEST_SEED", "0")) or random.randrange(1, 2**32)
    print(f"CELERIAC_TEST_SEED={number}")  # noqa: T201 - shown where the test fails
    with (
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
        redis.Redis.from_url(redis_url) as raw_client,
    ):

        class Example(Broker):
            pass

        Example.client, Example.raw_client = client, raw_client
        run_state_machine_as_test(
            seed(number)(Example),
            settings=settings(
                max_examples=examples,
                stateful_step_count=50,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
