"""Open a file of any supported kind as a stream of records.

    with closing(open_reader(file)) as reader:
        reader.columns
        for block in reader.blocks(start=0, size=lambda: 10_000):
            ...

Memory is bounded by the size of a block, whatever the length of the file or of its lines.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from celeriac.errors import InvalidInput
from workloads.data_sync.csv_reader import CsvReader
from workloads.data_sync.detection import SAMPLE_BYTES, is_workbook, text_format
from workloads.data_sync.records import Block

MOST_COLUMNS = 2_000

#: What a column may be called at most, characters.
COLUMN_NAME_CHARS = 200

_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")

_READ_BYTES = 1024 * 1024


class Reader(Protocol):
    """The records of one file."""

    #: The names of the columns: not empty, each different.
    columns: list[str]

    def blocks(self, start: int, size: Callable[[], int]) -> Iterator[Block]:
        """Read on from a position (`Block.end`; 0 for the first record) in blocks of about the size asked for.

        Raises:
            InvalidInput: the rest of the file cannot be read at all.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_reader(raw: IO[bytes]) -> Reader:
    """Find out what a file is and read its header.

    Args:
        raw: the file from its first byte; need not be seekable. Closed with the reader, and when this fails.

    Raises:
        InvalidInput: the file is empty, of an unsupported kind, or has no usable header.
    """
    try:
        head = _first(raw, SAMPLE_BYTES)
        reader: Reader
        if is_workbook(head):
            # openpyxl would cost every process memory, and few files need it.
            from workloads.data_sync.xlsx_reader import XlsxReader  # noqa: PLC0415

            reader = XlsxReader(_seekable(head, raw))
        else:
            found = text_format(head)
            stream = io.BufferedReader(_Rejoined(head[found.mark_bytes :], raw), _READ_BYTES)
            reader = CsvReader(stream, found)
        reader.columns = _checked(reader.columns)
    except BaseException:
        raw.close()
        raise
    return reader


def _checked(columns: list[str]) -> list[str]:
    names = [name.strip() for name in columns]
    if len(names) > MOST_COLUMNS:
        raise InvalidInput("file", len(names), f"the header has more than {MOST_COLUMNS} columns")
    if all(_NUMBER.fullmatch(name) for name in names):
        raise InvalidInput("file", names, "the first line is no header, it holds only numbers; add the column names")
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if not name:
            raise InvalidInput("file", names, f"column {place} of the header has no name")
        if len(name) > COLUMN_NAME_CHARS:
            raise InvalidInput(
                "file", name, f"the name of column {place} is longer than {COLUMN_NAME_CHARS} characters"
            )
        if name in seen:
            raise InvalidInput("file", name, f"column {place} of the header repeats the name of an earlier one")
        seen.add(name)
    return names


def _first(raw: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := raw.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _seekable(head: bytes, raw: IO[bytes]) -> IO[bytes]:
    spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
    try:
        spool.write(head)
        shutil.copyfileobj(raw, spool, _READ_BYTES)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    raw.close()
    return spool


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were read already, whole again."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - anything that can be written to
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        part = self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._rest.close()
        super().close()
