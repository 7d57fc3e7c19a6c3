"""One change of a record, as the stream has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from celeriac.errors import InvalidInput
from celeriac.results import TaskFilter, TaskState
from celeriac.results.record import EPOCH

#: Before all events.
START = "0-0"

#: What `XRANGE` and `XREAD` answer for an event: its id, and names and values of its fields in turn.
Entry = tuple[str, Sequence[str]]

#: Both parts of an id are numbers of 64 bits.
_PART_LIMIT = 2**64

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A change of a task's record."""

    #: Its place in the stream; `place` orders them.
    id: str
    task_id: str
    #: The state since then; it may be the same as before, as with progress.
    state: TaskState
    queue: str
    name: str

    @classmethod
    def read(cls, entries: Iterable[Entry]) -> list[Self]:
        """Read entries of the stream, as `event.lua` writes them; what another version writes may be left out."""
        events = []
        for event_id, flat in entries:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            state = fields.get("state", "")
            if state in TaskState.__members__ and fields.keys() >= {"id", "queue", "name"}:
                events.append(cls(event_id, fields["id"], TaskState(state), fields["queue"], fields["name"]))
        return events

    @property
    def at(self) -> str:
        """When it happened, by Redis' clock, as records hold times."""
        return (EPOCH + timedelta(milliseconds=place(self.id)[0])).isoformat(timespec="milliseconds")

    def matches(self, chosen: TaskFilter) -> bool:
        """Whether a filter by state, queue and name lets it through; when its task was submitted is not known here."""
        pairs = (chosen.queue, self.queue), (chosen.name, self.name)
        return self.state in chosen.states and all(wanted is None or wanted == own for wanted, own in pairs)


def place(event_id: str) -> tuple[int, int]:
    """The parts of an id, which order events: ms since 1970, by Redis' clock, and a number."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number)


def check_id(text: str) -> str:
    """Refuse what is no id of an event.

    Raises:
        InvalidInput: it is none.
    """
    found = _ID.fullmatch(text)
    if found is None or any(int(part) >= _PART_LIMIT for part in found.groups()):
        raise InvalidInput("Last-Event-ID", text, "give the id of an event as it came, such as 1769860800000-0")
    return text
