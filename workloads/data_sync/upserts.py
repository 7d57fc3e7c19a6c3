"""Write batches of rows into a table by set-based upserts; what both kinds of database promise.

- The first row of a file with a key wins; a later one of the same file is a duplicate and is not written.
- Between files the newest sync wins: a row is `updated` when its data differs, and `unchanged` when it does not.
- An unchanged row takes the provenance (`file_id`, `line`) of the newest file that holds it; `updated_at` stays. A row
  that is the same in all of this is not written at all, so that a second sync of a file writes nothing.

A duplicate in a later batch is known by the provenance of the row it meets. When another file takes that row over
between the two batches, the later of the two rows wins instead: its data is from the same file, only a later line.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from workloads.data_sync.records import Prepared


@dataclass(frozen=True, slots=True)
class Staged:
    """A batch in the form that its database takes fastest."""

    rows: int
    payload: bytes | list[tuple[str | int | None, ...]]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row whose key an earlier batch of its file has written."""

    line: int
    key: str
    first_line: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: the numbers add up to its rows."""

    inserted: int
    updated: int
    unchanged: int
    duplicates: list[Duplicate]


class Upserter(Protocol):
    """Writes the batches of one file, over one connection."""

    @property
    def batch_rows(self) -> int:
        """The rows that the next batch should have."""
        ...

    @property
    def works_apart(self) -> bool:
        """Whether the database works in a process of its own, while this one has time for the next batch."""
        ...

    def encode(self, rows: Prepared) -> Staged:
        """Bring a batch into the form that its database takes; needs no connection, so any thread may do it."""
        ...

    def transaction(self, connection: Connection, staged: Staged) -> AbstractContextManager[None]:
        """Open a writing transaction with the batch in its staging table; committed at the end of the block."""
        ...

    def upsert(self, connection: Connection, staged: Staged) -> Outcome:
        """Write the staged batch within that transaction."""
        ...
