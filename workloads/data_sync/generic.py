"""Files of any shape: every value stays the text that it is in the file."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter
from typing import cast

import orjson
from sqlalchemy import Table

from workloads.data_sync.keys import make_keys, without_unusable_keys
from workloads.data_sync.models import GenericRow
from workloads.data_sync.plan import Target
from workloads.data_sync.records import Block, Prepared, Rejection

#: Any number that overflows a double by its exponent has this in it; hardly any other text does.
_SUSPECT = re.compile(r"[eE]\+?[0-9]{2}")

_WITH_EXPONENT = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+\s*")


class GenericPlan:
    """A file whose columns mean what their names say.

    Args:
        columns: the names in the header.
        key_columns: the columns that identify a row, of those in the header; all of them when empty.
    """

    def __init__(self, columns: Sequence[str], key_columns: Sequence[str]) -> None:
        self._columns = list(columns)
        # Sorted, so that files with their columns in another order hold the same rows as the same texts.
        self._names = sorted(columns)
        order = [self._columns.index(name) for name in self._names]
        self._sorted = None if self._names == self._columns else itemgetter(*order)
        self._key_indexes = [self._columns.index(name) for name in key_columns or self._names]
        self.key_column = ", ".join(key_columns) or None
        dataset = hashlib.blake2b(orjson.dumps([self._names, list(key_columns)]), digest_size=8).hexdigest()
        self.target = Target(cast("Table", GenericRow.__table__), ("data",), {"dataset": dataset})

    def prepare(self, block: Block) -> Prepared:
        """Write each record as a JSON object of texts; numbers that no database could hold are refused."""
        rows, lines, rejections = block.rows, block.lines, list(block.rejections)
        if _SUSPECT.search(block.text):
            usable = [self._in_range(line, row, rejections) for line, row in zip(lines, rows, strict=True)]
            if not all(usable):
                rows, lines = list(compress(rows, usable)), list(compress(lines, usable))
        names, dumps = self._names, orjson.dumps
        values = map(self._sorted, rows) if self._sorted else rows
        data: list[str | None] = [str(dumps(dict(zip(names, row, strict=True))), "utf-8") for row in values]
        prepared = Prepared(make_keys(rows, self._key_indexes), lines, [data], rejections)
        return without_unusable_keys(prepared, self.key_column)

    def _in_range(self, line: int, row: Sequence[str], rejections: list[Rejection]) -> bool:
        if not _SUSPECT.search("\n".join(row)):
            return True
        for column, value in zip(self._columns, row, strict=True):
            if _WITH_EXPONENT.fullmatch(value) and math.isinf(float(value)):
                rejections.append(Rejection(line, column, value, "number out of range"))
                return False
        return True
