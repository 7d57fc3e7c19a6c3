"""What a platform does for one file: turn its records into rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Table

from workloads.data_sync.records import Block, Prepared


@dataclass(frozen=True, slots=True)
class Target:
    """The table that a file's rows go to, and what is the same for all of them."""

    table: Table
    #: The columns that hold the row's data, in the order of `Prepared.columns`.
    data_columns: tuple[str, ...]
    #: The columns of the primary key beside `key`, with their value for this file.
    constants: Mapping[str, str] = field(default_factory=dict)


class Plan(Protocol):
    """A platform bound to the header of one file."""

    @property
    def target(self) -> Target:
        """Where the rows go."""
        ...

    @property
    def key_column(self) -> str | None:
        """The column, or columns, to name when a key is at fault; None when it is all of them."""
        ...

    def prepare(self, block: Block) -> Prepared:
        """Turn records into rows; every record becomes a row or a rejection."""
        ...
