"""The staging table of a target, and the expressions by which both databases compare the two.

In all of them `:file_id` is the file being synced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    case,
    or_,
    select,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from workloads.data_sync.plan import Target
from workloads.data_sync.upserts import Duplicate

#: The columns of a table, or those of `excluded` in an upsert.
Columns = ReadOnlyColumnCollection[str, Any]


class Staging:
    """A temporary table that holds one batch of rows for a target.

    Args:
        target: the table that the rows go to.
        file_id: the file that they come from.
        types: the types of data columns that are staged as something else than in the target.
    """

    def __init__(self, target: Target, file_id: int, types: Mapping[str, Any]) -> None:
        self.target = target
        self.file_id = file_id
        target_columns = target.table.c
        self.table = Table(
            f"{target.table.name}_staged",
            MetaData(),
            Column("key", Text, nullable=False),
            Column("line", BigInteger, nullable=False),
            *(Column(name, types.get(name, target_columns[name].type)) for name in target.data_columns),
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DELETE ROWS",
        )
        self._file_id: ColumnElement[int] = bindparam("file_id", file_id, type_=BigInteger)
        self._constants: dict[str, ColumnElement[Any]] = {
            name: bindparam(name, value) for name, value in target.constants.items()
        }

    @property
    def primary_key(self) -> list[str]:
        """The columns that an upsert may conflict on."""
        return [column.name for column in self.target.table.primary_key]

    def values(self, now: ColumnElement[Any], data: Mapping[str, ColumnElement[Any]]) -> dict[str, ColumnElement[Any]]:
        """Give what each column of the target gets from a staged row.

        Args:
            now: the moment of the transaction.
            data: expressions for the data columns that need one.
        """
        staged = self.table.c
        return {
            **self._constants,
            "key": staged.key,
            **{name: data.get(name, staged[name]) for name in self.target.data_columns},
            "file_id": self._file_id,
            "line": staged.line,
            "created_at": now,
            "updated_at": now,
        }

    def differs(self, new: Columns | Mapping[str, ColumnElement[Any]]) -> ColumnElement[bool]:
        """Whether the data of a target row is not that of a new one."""
        old = self.target.table.c
        return or_(*(old[name].is_distinct_from(new[name]) for name in self.target.data_columns))

    def is_duplicate(self, new_line: ColumnElement[int]) -> ColumnElement[bool]:
        """Whether a target row is an earlier one of the same file."""
        old = self.target.table.c
        return and_(old.file_id == self._file_id, old.line < new_line)

    def is_same_row(self) -> ColumnElement[bool]:
        """Whether a target row has the key of a staged one."""
        old = self.target.table.c
        return and_(
            old.key == self.table.c.key,
            *(old[name] == value for name, value in self._constants.items()),
        )

    def changes(self, new: Columns, now: ColumnElement[Any]) -> dict[str, ColumnElement[Any]]:
        """Give what a conflict sets: the new data and provenance, and the moment if the data is other than before."""
        return {
            **{name: new[name] for name in (*self.target.data_columns, "file_id", "line")},
            "updated_at": case((self.differs(new), now), else_=self.target.table.c.updated_at),
        }

    def should_write(self, new: Columns) -> ColumnElement[bool]:
        """Whether a conflict changes anything, and may."""
        old = self.target.table.c
        moved = or_(old.file_id != new.file_id, old.line != new.line)
        return and_(or_(self.differs(new), moved), ~self.is_duplicate(new.line))

    def duplicates(self, connection: Connection) -> list[Duplicate]:
        """Find the staged rows whose key an earlier row of the same file has."""
        staged, target = self.table, self.target.table
        # A scalar subquery by nothing but the primary key: with a join, or with the file among the conditions, the
        # planner may read all rows of the file instead, for each batch or even for each row.
        line_in_file = case((target.c.file_id == self._file_id, target.c.line))
        first_line = select(line_in_file).where(self.is_same_row()).correlate(staged).scalar_subquery()
        found = select(staged.c.line, staged.c.key, first_line.label("first_line")).subquery()
        query = select(found).where(found.c.first_line < found.c.line).order_by(found.c.line)
        return [Duplicate(*row) for row in connection.execute(query)]
