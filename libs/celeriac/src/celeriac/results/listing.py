"""Records are listed here, the newest first, by the indexes of queues and states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, cast

from redis import Redis

from celeriac.broker import Keys
from celeriac.broker.line import Line
from celeriac.errors import InvalidInput
from celeriac.results.record import EPOCH, TaskRecord, TaskState, parse

#: Records that are looked at for one page; a rare name may be on none of them, and the page be empty.
WALKED = 1000

#: States whose results say more than the record: the error, or how far the task has come.
_TELLING = frozenset({TaskState.FAILURE, TaskState.RETRY, TaskState.PROGRESS})

_CURSOR = re.compile(r"(\d{1,15}):(.+)", re.DOTALL)


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks are meant: those to which everything applies that is given."""

    queue: str | None = None
    state: TaskState | None = None
    name: str | None = None
    #: Submitted at this moment or later.
    since: datetime | None = None
    #: Submitted before this moment.
    until: datetime | None = None


@dataclass(frozen=True)
class TaskPage:
    """A part of a list of records."""

    records: Sequence[TaskRecord]
    #: What gets the next page; None at the end.
    next_cursor: str | None


class Listing:
    """Lists records.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._script = client.register_script(files(__package__).joinpath("list.lua").read_text())

    def page(self, chosen: TaskFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> TaskPage:
        """List records, the newest first; their results are not read.

        Args:
            chosen: which; None for all.
            limit: how many at most, 1 to 1,000. There may be fewer on a page that is not the last.
            cursor: `next_cursor` of the page before. What is submitted or changes its state between two pages moves
                nothing that comes later.

        Raises:
            InvalidInput: the cursor is none.
        """
        found = _Found.of(self._script(args=self._arguments(chosen or TaskFilter(), limit, cursor)))
        keys = self._telling(found)
        texts = self._client.mget(list(keys.values())) if keys else []
        return found.page(keys, cast("list[str | None]", texts))

    async def page_by(
        self, line: Line, chosen: TaskFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> TaskPage:
        """Do as `page` does, over the connection of an event loop."""
        found = _Found.of(await line.call(self._script, [], self._arguments(chosen or TaskFilter(), limit, cursor)))
        keys = self._telling(found)
        return found.page(keys, await line.execute("MGET", *keys.values()) if keys else [])

    def _arguments(self, chosen: TaskFilter, limit: int, cursor: str | None) -> list[str | int]:
        since = "-inf" if chosen.since is None else _ms(chosen.since)
        until = None if chosen.until is None else _ms(chosen.until) - 1
        last_ms, last_id = _place(cursor)
        if last_ms is not None and (until is None or last_ms <= until):
            until = last_ms
        else:
            last_id = ""
        return [
            self._keys.prefix,
            limit,
            WALKED,
            since,
            "+inf" if until is None else until,
            last_id,
            chosen.queue or "",
            chosen.name or "",
            *([chosen.state] if chosen.state else TaskState),
        ]

    def _telling(self, found: _Found) -> Mapping[str, str]:
        telling = (task_id for task_id, fields in found.records.items() if fields["state"] in _TELLING)
        return {task_id: self._keys.result(task_id) for task_id in telling}


@dataclass(frozen=True)
class _Found:
    """What `list.lua` returns."""

    next_cursor: str | None
    #: By task id, in their order.
    records: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, answer: Sequence[Any]) -> _Found:
        last_ms, last_id, *rest = answer
        pairs = zip(rest[::2], rest[1::2], strict=True)
        records = {task_id: dict(zip(parts[::2], parts[1::2], strict=True)) for task_id, parts in pairs}
        return cls(f"{last_ms}:{last_id}" if last_ms else None, records)

    def page(self, asked: Iterable[str], texts: Iterable[str | None]) -> TaskPage:
        stored = {task_id: json.loads(text) for task_id, text in zip(asked, texts, strict=True) if text}
        records = [parse(task_id, fields, stored.get(task_id, {})) for task_id, fields in self.records.items()]
        return TaskPage(records, self.next_cursor)


def _ms(moment: datetime) -> int:
    # Records know no less than a millisecond: the first that is not before the moment.
    return -((EPOCH - moment) // timedelta(milliseconds=1))


def _place(cursor: str | None) -> tuple[int | None, str]:
    if cursor is None:
        return None, ""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidInput("cursor", cursor, "give the next_cursor of a page of this list as it is")
    return int(match[1]), match[2]
