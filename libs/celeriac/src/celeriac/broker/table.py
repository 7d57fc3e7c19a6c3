"""What a worker holds, in memory that it shares with the process that renews its leases.

    entry = held by the worker ──acknowledge──> being sent ──done──> free
                              └─(could not be sent)──> to acknowledge, to release, … ──done by the keeper──> free

The worker writes entries and vital signs; the keeper writes `done` marks, the time of its last renewal and the wish to
stop. No field has two writers, so none needs a lock across processes: each is an aligned word of 8 bytes.
"""

from __future__ import annotations

import json
import mmap
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from celeriac.broker.leases import Delivery

#: Most messages that one worker can hold.
CAPACITY = 4096

_WORD = 8
_VITAL_WORDS = 16
_TEXT_BYTES = 8192


class EntryState(IntEnum):
    """What the worker does with a message."""

    FREE = 0
    #: It waits in the worker, or runs.
    HELD = 1
    #: Its acknowledgement is on the way.
    SENDING = 2
    #: Its acknowledgement could not be sent: the keeper sends it.
    TO_ACKNOWLEDGE = 3
    #: It was to be returned, had it not begun, and could not be: the keeper returns it, if it has not begun.
    TO_RELEASE = 4
    #: It was rejected, and could not be: the keeper returns it, or makes it a dead letter.
    TO_GIVE_UP = 5
    #: It was to be returned in any case, and could not be: the keeper returns it.
    TO_RETURN = 6


@dataclass(frozen=True)
class Entry:
    """One message that the worker holds."""

    delivery: Delivery
    state: EntryState
    #: Where it stands in the table.
    place: int = field(default=-1, compare=False)


class _Vital(IntEnum):
    LOOP_TURNED = 0
    BROKER_ANSWERED = 1
    CLAIMED = 2
    RENEWED = 3
    BUSY = 4
    FREE_SLOTS = 5
    STOPPING = 6
    HIGH_WATER = 7
    TEXT_LENGTH = 8
    DONE = 9


class LeaseTable:
    """Made before the worker is forked from its keeper; within one process it serves both just as well.

    Times are of the monotonic clock, which all processes of a machine share; 0 stands for never.
    """

    def __init__(self) -> None:
        words = _VITAL_WORDS + 3 * CAPACITY
        self._memory = memoryview(mmap.mmap(-1, words * _WORD + _TEXT_BYTES))
        split = _VITAL_WORDS * _WORD
        self._vitals = self._memory[:split].cast("d")
        numbers = self._memory[split : words * _WORD].cast("q")
        self._tags = numbers[:CAPACITY]
        self._states = numbers[CAPACITY : 2 * CAPACITY]
        self._done = numbers[2 * CAPACITY :]
        self._text = self._memory[words * _WORD :]
        self._lock = threading.Lock()
        self._indices: dict[int, int] = {}
        self._free: list[int] = []
        self._queues: list[str] = []
        self._consumed: list[str] = []
        self._reclaimed = 0.0
        self._last_text: tuple[list[str], list[str]] = ([], [])

    # What the worker writes

    @property
    def room(self) -> int:
        """How many more messages fit."""
        if len(self._indices) >= CAPACITY:
            # What the keeper has done is reclaimed with the next message, and of those there would be none any more.
            with self._lock:
                self._reclaim()
        return CAPACITY - len(self._indices)

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """Enter messages as held."""
        with self._lock:
            self._reclaim()
            for delivery in deliveries:
                index = self._free.pop() if self._free else int(self._vitals[_Vital.HIGH_WATER])
                if index >= CAPACITY:
                    msg = f"a worker holds {CAPACITY} messages at most"
                    raise OverflowError(msg)
                self._tags[index] = delivery.tag
                # The keeper takes an entry for one when its state says so, hence last.
                self._states[index] = self._number(delivery.queue) << 8 | EntryState.HELD
                self._vitals[_Vital.HIGH_WATER] = max(self._vitals[_Vital.HIGH_WATER], index + 1)
                self._indices[delivery.tag] = index

    def mark(self, tag: int, state: EntryState) -> None:
        """Note what is done with a message; nothing where it is not held."""
        with self._lock:
            index = self._indices.get(tag)
            if index is not None:
                self._states[index] = self._states[index] & ~0xFF | state

    def drop(self, tags: Iterable[int]) -> None:
        """Forget messages."""
        with self._lock:
            for tag in tags:
                index = self._indices.pop(tag, None)
                if index is not None:
                    self._states[index] = EntryState.FREE
                    self._free.append(index)

    def delivery(self, tag: int) -> Delivery | None:
        """The delivery of a tag that is held."""
        index = self._indices.get(tag)
        return None if index is None else Delivery(self._queues[self._states[index] >> 8], tag)

    def consume(self, queues: Iterable[str]) -> None:
        """Note which queues are consumed; none while there is no connection."""
        consumed = sorted(queues)
        with self._lock:
            if consumed != self._consumed:
                self._consumed = consumed
                self._write_text()

    def turned(self, *, busy: int, free_slots: int) -> None:
        """Note a turn of the worker's loop, how many tasks run, and for how many more it has slots."""
        self._vitals[_Vital.LOOP_TURNED] = time.monotonic()
        self._vitals[_Vital.BUSY] = busy
        self._vitals[_Vital.FREE_SLOTS] = free_slots

    def answered(self, claimed: int) -> None:
        """Note that the broker has answered a claim."""
        now = time.monotonic()
        self._vitals[_Vital.BROKER_ANSWERED] = now
        if claimed:
            self._vitals[_Vital.CLAIMED] = now

    # What the keeper writes

    def done(self, entry: Entry) -> None:
        """Note that an entry's message was acknowledged or released in the worker's place."""
        self._done[entry.place] = entry.delivery.tag
        self._vitals[_Vital.DONE] += 1

    def renewed(self, moment: float) -> None:
        """Note the start of a successful renewal."""
        self._vitals[_Vital.RENEWED] = moment

    def stop(self) -> None:
        """Tell the worker to claim nothing more."""
        self._vitals[_Vital.STOPPING] = 1

    # What both read

    def entries(self) -> list[Entry]:
        """All messages that the worker holds."""
        high = self._high_water
        names = self._read_text()[0]
        tags, states, done_tags = (words[:high].tolist() for words in (self._tags, self._states, self._done))
        # A place may change its owner meanwhile, and have the tag of one message and the state of another: a state is
        # that of the tag that stands there before it is read and afterwards. What changes is read the next time.
        tags_after = self._tags[:high].tolist()
        entries = []
        for place, (tag, state, done, tag_after) in enumerate(zip(tags, states, done_tags, tags_after, strict=True)):
            number = state >> 8
            if state & 0xFF and tag == tag_after and done != tag and number < len(names):
                entries.append(Entry(Delivery(names[number], tag), EntryState(state & 0xFF), place))
        return entries

    @property
    def stopping(self) -> bool:
        """Whether the worker is to claim nothing more."""
        return self._vitals[_Vital.STOPPING] != 0

    @property
    def consumed(self) -> list[str]:
        """The queues that are consumed."""
        return self._read_text()[1]

    @property
    def busy(self) -> int:
        """How many tasks run."""
        return int(self._vitals[_Vital.BUSY])

    @property
    def free_slots(self) -> int:
        """For how many more tasks there are slots."""
        return int(self._vitals[_Vital.FREE_SLOTS])

    @property
    def loop_turned_at(self) -> float:
        """When the worker's loop turned last."""
        return self._vitals[_Vital.LOOP_TURNED]

    @property
    def broker_answered_at(self) -> float:
        """When the broker answered the worker last."""
        return self._vitals[_Vital.BROKER_ANSWERED]

    @property
    def claimed_at(self) -> float:
        """When the worker claimed a message last."""
        return self._vitals[_Vital.CLAIMED]

    @property
    def renewed_at(self) -> float:
        """When the last successful renewal began."""
        return self._vitals[_Vital.RENEWED]

    @property
    def _high_water(self) -> int:
        return int(self._vitals[_Vital.HIGH_WATER])

    def _reclaim(self) -> None:
        if self._vitals[_Vital.DONE] == self._reclaimed:
            return
        self._reclaimed = self._vitals[_Vital.DONE]
        for tag, index in list(self._indices.items()):
            if self._done[index] == tag:
                del self._indices[tag]
                self._states[index] = EntryState.FREE
                self._free.append(index)

    def _number(self, queue: str) -> int:
        if queue not in self._queues:
            self._queues.append(queue)
            try:
                self._write_text()
            except OverflowError:
                # Whoever tried again would be believed to have it renewed.
                self._queues.remove(queue)
                raise
        return self._queues.index(queue)

    def _write_text(self) -> None:
        text = json.dumps([self._queues, self._consumed]).encode()
        if len(text) > _TEXT_BYTES:
            msg = f"the names of a worker's queues take {_TEXT_BYTES} bytes at most"
            raise OverflowError(msg)
        # A reader that comes in between finds no JSON, and keeps what it read before.
        self._vitals[_Vital.TEXT_LENGTH] = 0
        self._text[: len(text)] = text
        self._vitals[_Vital.TEXT_LENGTH] = len(text)

    def _read_text(self) -> tuple[list[str], list[str]]:
        try:
            queues, consumed = json.loads(bytes(self._text[: int(self._vitals[_Vital.TEXT_LENGTH])]))
        except ValueError:
            return self._last_text
        self._last_text = (queues, consumed)
        return self._last_text
