"""CSV in bounded memory, with every broken record rejected and every other one kept.

What a line means depends only on the lines from the start of its record on, never on how the file was cut into
blocks: two readings of a file agree on every record, wherever each of them resumed.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from typing import IO

from celeriac.errors import InvalidInput
from workloads.data_sync.detection import TextFormat
from workloads.data_sync.records import Block, Rejection, storable

#: A block ends here even when it has few lines, characters; what bounds the memory of a batch.
BLOCK_CHARS = 1024 * 1024

#: A longer line is rejected, characters.
LINE_CHARS = 1024 * 1024

#: How far a record over several lines may reach, characters: the price of one quote that is never closed.
RECORD_CHARS = 256 * 1024

#: A line of its own after the lines parsed: when it comes back alone, all quotes before it were closed.
_END = "\x1eend\x1e"

_ESCAPE = "data_sync_escape"


def _escape(error: UnicodeError) -> tuple[str, int]:
    # `surrogateescape` refuses bytes below 128, which a broken UTF-16 or Big5 pair may well hold.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_ESCAPE, _escape)


class CsvReader:
    """The records of a CSV file, in order.

    Args:
        raw: the file from its first byte after the byte order mark; closed with the reader.
        text_format: encoding and delimiter.

    Raises:
        InvalidInput: the header cannot be read.
    """

    def __init__(self, raw: IO[bytes], text_format: TextFormat) -> None:
        self._encoding = text_format.encoding
        self._delimiter = text_format.delimiter
        self._lines = _Lines(io.TextIOWrapper(raw, text_format.encoding, errors=_ESCAPE, newline=""))
        self.columns: list[str] = []
        self.columns = self._header()

    def blocks(self, start: int, size: Callable[[], int]) -> Iterator[Block]:
        """Read on in blocks.

        Args:
            start: the physical lines whose records are done; 0 for none.
            size: the lines that the next block should have, asked before each.
        """
        self._lines.skip_to(start)
        while lines := self._lines.take(size(), BLOCK_CHARS):
            yield self._block(lines)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _header(self) -> list[str]:
        while lines := self._lines.take(1, BLOCK_CHARS):
            if not lines[0].strip("\r\n"):
                continue
            record = self._record(lines, 0)
            if isinstance(record, str):
                raise InvalidInput("file", lines[0], f"the header line cannot be read: {record}")
            if not storable("".join(record[0])):
                raise InvalidInput("file", lines[0], f"the header holds bytes that are no {self._encoding} text")
            return record[0]
        raise InvalidInput("file", "", "the file has no header line")

    def _block(self, lines: list[str]) -> Block:
        first = self._lines.position - len(lines)
        text = "".join(lines)
        if storable(text) and max(map(len, lines)) < LINE_CHARS:
            try:
                rows = list(csv.reader([*lines, _END], delimiter=self._delimiter))
            except csv.Error:
                rows = []
            if len(rows) == len(lines) + 1 and rows.pop() == [_END] and set(map(len, rows)) == {len(self.columns)}:
                return Block(rows, range(first + 1, first + 1 + len(rows)), text, [], self._lines.position)
        return self._careful_block(first, lines)

    def _careful_block(self, first: int, lines: list[str]) -> Block:
        """Go record by record; a record that reaches beyond the block takes its further lines along."""
        rows: list[list[str]] = []
        numbers: list[int] = []
        rejections: list[Rejection] = []
        at = 0
        while at < len(lines):
            number = first + at + 1
            line = lines[at]
            if not line.strip("\r\n"):
                at += 1
                continue
            record = self._record(lines, at)
            if isinstance(record, str):
                rejections.append(Rejection(number, None, line, record))
                at += 1
                continue
            row, taken = record
            at += taken
            if len(row) != len(self.columns):
                reason = f"{len(row)} columns instead of {len(self.columns)}"
                rejections.append(Rejection(number, None, line, reason))
            elif storable("".join(row)):
                rows.append(row)
                numbers.append(number)
            else:
                rejections.append(self._unstorable(number, row))
        return Block(rows, numbers, "".join(lines), rejections, self._lines.position)

    def _record(self, lines: list[str], at: int) -> tuple[list[str], int] | str:
        """Parse the record that starts at a line.

        Returns:
            Its values and the number of its lines, or the reason why its first line is rejected.
        """
        line = lines[at]
        if len(line) >= LINE_CHARS:
            return f"the line has {LINE_CHARS} characters or more"
        try:
            rows = list(csv.reader([line, _END], delimiter=self._delimiter))
        except csv.Error as error:
            return f"the line cannot be read: {error}"
        if len(rows) == 2:
            return rows[0], 1
        return self._long_record(lines, at)

    def _long_record(self, lines: list[str], at: int) -> tuple[list[str], int] | str:
        reader = csv.reader(self._lines_from(lines, at), delimiter=self._delimiter, strict=True)
        try:
            row = next(reader)
        except (csv.Error, StopIteration):
            return "a quote is opened and never closed"
        if self.columns and len(row) != len(self.columns):
            return f"a quote is not closed in its line: {len(row)} columns up to the next, not {len(self.columns)}"
        return row, reader.line_num

    def _lines_from(self, lines: list[str], at: int) -> Iterator[str]:
        """Give the lines from one on, taking further ones from the file as needed, as far as a record may reach."""
        reach = RECORD_CHARS
        while reach > 0:
            if at == len(lines):
                more = self._lines.take(1, BLOCK_CHARS)
                if not more:
                    return
                lines += more
            reach -= len(lines[at])
            yield lines[at]
            at += 1

    def _unstorable(self, number: int, row: list[str]) -> Rejection:
        column, value = next(pair for pair in zip(self.columns, row, strict=True) if not storable(pair[1]))
        reason = "holds a NUL character" if "\0" in value else f"holds bytes that are no {self._encoding} text"
        return Rejection(number, column, value, reason)


class _Lines:
    """The physical lines of a text file, in turn."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self.position = 0

    def take(self, most: int, most_chars: int) -> list[str]:
        """Read lines with their ends: at least one unless the file is at its end, each cut at `LINE_CHARS`."""
        readline = self._stream.readline
        lines: list[str] = []
        while len(lines) < most and most_chars > 0 and (line := readline(LINE_CHARS)):
            lines.append(line)
            most_chars -= len(line)
            if len(line) == LINE_CHARS:
                self._skip_rest(line)
        self.position += len(lines)
        return lines

    def skip_to(self, position: int) -> None:
        """Pass over lines until so many are behind."""
        while self.position < position and self.take(min(1000, position - self.position), BLOCK_CHARS):
            pass

    def close(self) -> None:
        self._stream.close()

    def _skip_rest(self, piece: str) -> None:
        while piece and not piece.endswith(("\r", "\n")):
            piece = self._stream.readline(LINE_CHARS)
