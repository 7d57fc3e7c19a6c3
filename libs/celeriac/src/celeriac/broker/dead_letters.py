"""Dead letters: the messages that were given up, each with the reason, until somebody replays or drops it.

A queue keeps `leases.DEAD_LETTERS_KEPT`, and the oldest go first. Of those who replay or drop a letter one wins, and
the others change nothing. `celeriac.publishing.dead_letters` knows what the record of a replayed task is to be.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, cast

from redis import Redis

from celeriac.broker import messages, scripts
from celeriac.broker.keys import DEFAULT_PRIORITY, Keys
from celeriac.broker.publication import Companion
from celeriac.errors import InvalidInput, NotFound

#: Letters read in one round trip.
_CHUNK = 100

#: Later than any letter, ms since 1970.
_NEVER_MS = 10**15

#: A place in the list: when a letter died, ms since 1970, and its queue.
CURSOR = r"^([0-9]{1,16}):([^\x00]+)$"


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up."""

    #: The tag of its last delivery, by which it is known.
    tag: int
    queue: str
    #: Why it was given up.
    reason: str
    #: The last error, as far as it is known; empty if there was none.
    error: str
    #: Who held it last: host and process.
    worker: str
    #: Deliveries that were started and came to no end.
    deliveries: int
    #: ms since 1970; no two of a queue died at the same moment.
    died_ms: int
    #: The raw message, whatever it is.
    message: bytes = field(repr=False)
    #: The list of ready messages that it came from, by its name in Redis.
    ready_list: str = field(repr=False)
    #: The letter as it stands in Redis.
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> DeadLetter:
        """Read a letter as `bury.lua` writes it; bytes of the message that are no UTF-8 stand in it as they are."""
        fields: dict[str, Any] = json.loads(raw.decode(errors="surrogateescape"))
        return cls(
            tag=int(fields["tag"]),
            queue=fields["queue"],
            reason=fields["reason"],
            error=fields["error"],
            worker=fields["worker"],
            deliveries=fields["deliveries"],
            died_ms=fields["died_ms"],
            message=fields["message"].encode(errors="surrogateescape"),
            ready_list=fields["list"],
            raw=raw,
        )

    @property
    def died_at(self) -> datetime:
        """When it was given up."""
        return datetime.fromtimestamp(self.died_ms / 1000, UTC)

    @property
    def task_id(self) -> str | None:
        """The task; None where the message names none."""
        return self._header("id")

    @property
    def task(self) -> str | None:
        """The task's name; None where the message names none."""
        return self._header("task")

    @property
    def priority(self) -> int:
        """The message's priority, 0 to 9."""
        given = (self.parsed or {}).get("properties", {}).get("priority")
        return given if isinstance(given, int) else DEFAULT_PRIORITY

    @cached_property
    def parsed(self) -> dict[str, Any] | None:
        """The message as Python; None where it is no message."""
        return messages.parse(self.message)

    @property
    def cursor(self) -> str:
        """Its place among all letters, from which the next page goes on."""
        return f"{self.died_ms}:{self.queue}"

    def _header(self, name: str) -> str | None:
        value = (self.parsed or {}).get("headers", {}).get(name)
        # What cannot be written as UTF-8 could be neither asked for nor shown.
        return value.encode(errors="replace").decode() if isinstance(value, str) else None


@dataclass(frozen=True)
class Selection:
    """Which dead letters are meant: those to which everything applies that is given."""

    queue: str | None = None
    #: The task's name.
    task: str | None = None
    #: A part of the reason, in either case.
    reason: str | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter of the queue is meant."""
        if self.task is not None and letter.task != self.task:
            return False
        return self.reason is None or self.reason.casefold() in letter.reason.casefold()


class DeadLetters:
    """The dead letters of all queues.

    Args:
        client: a client of Redis that does not decode responses, for messages may hold any bytes.
        keys: the names of keys.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._show = client.register_script(scripts.source("dead_letters"))
        self._replay = client.register_script(scripts.source("replay"))

    def page(
        self, selection: Selection | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[DeadLetter]:
        """List letters, the newest first.

        Args:
            selection: which; None for all.
            limit: how many at most.
            after: the `cursor` of the last letter of the page before.

        Raises:
            InvalidInput: `after` is no cursor.
        """
        before_ms, before_queue = _place(after)

        def older(queue: str) -> Iterator[DeadLetter]:
            # Letters of different queues may have died at the same moment; there the queue's name decides.
            yield from self._walk(queue, "older", before_ms + (queue > before_queue), selection)

        found = heapq.merge(*map(older, self._queues(selection)), key=lambda letter: (-letter.died_ms, letter.queue))
        return list(islice(found, limit))

    def select(self, selection: Selection | None = None) -> Iterator[DeadLetter]:
        """Go through all letters that there are now, queue by queue, oldest first; each may be removed meanwhile."""
        for queue in self._queues(selection):
            newest = next(self._walk(queue, "older", _NEVER_MS, None), None)
            for letter in self._walk(queue, "newer", 0, selection):
                if newest is None or letter.died_ms > newest.died_ms:
                    break
                yield letter

    def get(self, tag: int) -> DeadLetter:
        """Find a letter; looks through all of them.

        Raises:
            NotFound: there is none of this tag, or no longer.
        """
        for queue in self._queues(None):
            for letter in self._walk(queue, "older", _NEVER_MS, None, lambda raw: b'"tag":"%d"' % tag in raw):
                if letter.tag == tag:
                    return letter
        raise NotFound("dead letter", tag, "it was replayed or dropped, or has made room for newer ones")

    def replay(self, letter: DeadLetter, message: bytes | None = None, record: Companion | None = None) -> bool:
        """Put a letter's message back into its queue, with all its deliveries before it.

        Args:
            letter: the letter.
            message: what to put there in place of the message as it was.
            record: written in the same step, if the task has failed or its record has expired; its result is forgotten.

        Returns:
            False where the letter is gone, for somebody else has replayed or dropped it; nothing has changed then.
        """
        message = letter.message if message is None else message
        if record is None:
            return self._remove(letter, letter.ready_list, message, "")
        result = self._keys.result(record.task_id)
        return self._remove(letter, letter.ready_list, message, record.key, result, *record.arguments())

    def drop(self, letter: DeadLetter) -> bool:
        """Forget a letter; False where it is gone already."""
        return self._remove(letter, "", b"", "")

    def _remove(self, letter: DeadLetter, to: str, message: bytes, *record: str | int) -> bool:
        return bool(self._replay(args=[self._keys.prefix, letter.queue, letter.raw, to, message, *record]) == 1)

    def _queues(self, selection: Selection | None) -> list[str]:
        if selection is not None and selection.queue is not None:
            return [selection.queue]
        return sorted(name.decode() for name in cast("set[bytes]", self._client.smembers(self._keys.queues)))

    def _walk(
        self,
        queue: str,
        direction: str,
        moment_ms: int,
        selection: Selection | None,
        may_match: Callable[[bytes], bool] = lambda _raw: True,
    ) -> Iterator[DeadLetter]:
        while True:
            found: list[bytes] = self._show(args=[self._keys.prefix, queue, direction, moment_ms, _CHUNK])
            for raw in filter(may_match, found):
                letter = DeadLetter.parse(raw)
                if selection is None or selection.matches(letter):
                    yield letter
            if len(found) < _CHUNK:
                return
            moment_ms = DeadLetter.parse(found[-1]).died_ms


def _place(cursor: str | None) -> tuple[int, str]:
    """Read a cursor: a moment, ms since 1970, and the queue whose letters of that moment have been shown."""
    if cursor is None:
        return _NEVER_MS, ""
    match = re.search(CURSOR, cursor)
    if match is None:
        raise InvalidInput("cursor", cursor, "give the cursor of a page of this list as it is")
    return int(match[1]), match[2]
