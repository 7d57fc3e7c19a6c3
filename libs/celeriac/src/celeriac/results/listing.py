"""Records are listed here, the newest first, by the indexes of queues and states."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, cast

from redis import Redis

from celeriac.broker import Keys
from celeriac.broker.line import Line
from celeriac.contract.tasks import CURSOR, TaskState
from celeriac.errors import InvalidInput
from celeriac.results.record import EPOCH, TaskRecord, parse, read_stored

#: Records that are looked at for one page; a rare name may be on none of them, and the page be empty.
WALKED = 1000

#: Of these, so many in one step: Redis does nothing else meanwhile.
_STEP = 250

#: States whose results say more than the record: the error, or how far the task has come.
_TELLING = frozenset({TaskState.FAILURE, TaskState.RETRY, TaskState.PROGRESS})


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks are meant: those to which everything applies that is given."""

    queue: str | None = None
    states: Collection[TaskState] = tuple(TaskState)
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
        search = _Search(self._keys, chosen or TaskFilter(), limit, cursor)
        while arguments := search.arguments():
            search.add(self._script(args=arguments))
        keys = search.telling()
        texts = self._client.mget(list(keys.values())) if keys else []
        return search.page(keys, cast("list[str | None]", texts))

    async def page_by(
        self, line: Line, chosen: TaskFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> TaskPage:
        """Do as `page` does, over the connection of an event loop."""
        search = _Search(self._keys, chosen or TaskFilter(), limit, cursor)
        while arguments := search.arguments():
            search.add(await line.call(self._script, [], arguments))
        keys = search.telling()
        return search.page(keys, await line.execute("MGET", *keys.values()) if keys else [])


class _Search:
    """The search for the records of a page, step by step."""

    def __init__(self, keys: Keys, chosen: TaskFilter, limit: int, cursor: str | None) -> None:
        self._keys = keys
        self._chosen = chosen
        self._limit = limit
        self._cursor = cursor
        self._steps = 0
        #: By task id, in their order.
        self._records: dict[str, Mapping[str, str]] = {}

    def arguments(self) -> list[str | int] | None:
        """What `list.lua` is to be given next; None where the page is done."""
        found = len(self._records)
        if found >= self._limit or self._steps >= WALKED // _STEP or (self._steps and self._cursor is None):
            return None
        chosen = self._chosen
        since = "-inf" if chosen.since is None else _ms(chosen.since)
        until = None if chosen.until is None else _ms(chosen.until) - 1
        last_ms, last_id = _place(self._cursor)
        if last_ms is not None and (until is None or last_ms <= until):
            until = last_ms
        else:
            last_id = ""
        return [
            self._keys.prefix,
            self._limit - found,
            _STEP,
            since,
            "+inf" if until is None else until,
            last_id,
            chosen.queue or "",
            chosen.name or "",
            *chosen.states,
        ]

    def add(self, answer: Sequence[Any]) -> None:
        """Take what `list.lua` has answered."""
        last_ms, last_id, *rest = answer
        for task_id, parts in zip(rest[::2], rest[1::2], strict=True):
            self._records[task_id] = dict(zip(parts[::2], parts[1::2], strict=True))
        self._cursor = f"{last_ms}:{last_id}" if last_ms else None
        self._steps += 1

    def telling(self) -> Mapping[str, str]:
        """The keys of the results that are to be read, by task id."""
        telling = (task_id for task_id, fields in self._records.items() if fields["state"] in _TELLING)
        return {task_id: self._keys.result(task_id) for task_id in telling}

    def page(self, asked: Iterable[str], texts: Iterable[str | None]) -> TaskPage:
        """The page, with the results of those tasks that were asked for."""
        stored = {task_id: read_stored(text) for task_id, text in zip(asked, texts, strict=True) if text}
        records = [parse(task_id, fields, stored.get(task_id, {})) for task_id, fields in self._records.items()]
        return TaskPage(records, self._cursor)


def _ms(moment: datetime) -> int:
    # Records know no less than a millisecond: the first that is not before the moment.
    return -((EPOCH - moment) // timedelta(milliseconds=1))


def _place(cursor: str | None) -> tuple[int | None, str]:
    if cursor is None:
        return None, ""
    match = re.search(CURSOR, cursor)
    if match is None:
        raise InvalidInput("cursor", cursor, "give the next_cursor of a page of this list as it is")
    return int(match[1]), match[2]
