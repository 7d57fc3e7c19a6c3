"""XLSX in bounded memory: the rows of a workbook's first sheet, as the texts that the sheet shows.

Refused are workbooks that would unpack to more than is reasonable, and XML that declares entities (defusedxml).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import IO, Any

import openpyxl
from defusedxml.common import DefusedXmlException

from celeriac.errors import InvalidInput
from workloads.data_sync.records import Block, Rejection, storable

#: All parts of a workbook together, unpacked: 1 GiB, about 20 million cells.
WORKBOOK_BYTES = 1024**3

#: A part that openpyxl keeps in memory as a whole, such as the shared strings: at most some 120 MB as objects.
RESIDENT_PART_BYTES = 32 * 1024 * 1024

#: The last row that a sheet can have; a damaged one may claim more and would be filled up with empty rows.
LAST_ROW = 1_048_576

#: A block ends here even when it has few rows, characters.
BLOCK_CHARS = 1024 * 1024

#: What a damaged workbook may raise from within zipfile, ElementTree and openpyxl.
_DAMAGE = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    SyntaxError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    DefusedXmlException,
)


class XlsxReader:
    """The rows of a workbook's first sheet, in order.

    Args:
        file: the workbook, seekable; closed with the reader.

    Raises:
        InvalidInput: it is no workbook, a damaged one, one that unpacks to too much, or one without a header.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        try:
            _check_size(file)
            self._workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            sheet = self._workbook.worksheets[0]
            sheet.reset_dimensions()  # a wrong declared size would cut the rows short
            self._rows: Iterator[tuple[Any, ...]] = sheet.iter_rows(values_only=True)
        except _DAMAGE as error:
            raise _damaged(error) from error
        self._position = 0
        self.columns: list[str] = self._header()

    def blocks(self, start: int, size: Callable[[], int]) -> Iterator[Block]:
        """Read on in blocks.

        Args:
            start: the rows that are done; 0 for none.
            size: the rows that the next block should have, asked before each.
        """
        while self._position < start and self._take(min(1000, start - self._position)):
            pass
        while rows := self._take(size()):
            yield self._block(rows)

    def close(self) -> None:
        """Close the file."""
        self._workbook.close()
        self._file.close()

    def _header(self) -> list[str]:
        while rows := self._take(1):
            values = rows[0]
            while values and not values[-1]:
                values.pop()
            if values:
                return values
        raise InvalidInput("file", "", "the first sheet has no header row")

    def _take(self, most: int) -> list[list[str]]:
        taken: list[list[str]] = []
        chars = 0
        try:
            for row in islice(self._rows, most):
                values = [_text(value) for value in row]
                taken.append(values)
                chars += sum(map(len, values))
                if chars > BLOCK_CHARS:
                    break
        except _DAMAGE as error:
            raise _damaged(error) from error
        self._position += len(taken)
        if self._position > LAST_ROW:
            raise InvalidInput("file", self._position, f"the sheet claims more than {LAST_ROW} rows: it is damaged")
        return taken

    def _block(self, taken: list[list[str]]) -> Block:
        width = len(self.columns)
        rows: list[list[str]] = []
        numbers: list[int] = []
        rejections: list[Rejection] = []
        for number, values in enumerate(taken, self._position - len(taken) + 1):
            if not any(values):
                continue
            values.extend([""] * (width - len(values)))
            if any(values[width:]):
                reason = f"{len(values)} columns instead of {width}"
                rejections.append(Rejection(number, None, ",".join(values), reason))
                continue
            del values[width:]
            if storable("".join(values)):
                rows.append(values)
                numbers.append(number)
            else:
                reason = "holds characters that cannot be stored"
                rejections.append(Rejection(number, None, ",".join(values), reason))
        return Block(rows, numbers, "\n".join(map("\n".join, rows)), rejections, self._position)


def _text(value: Any) -> str:  # noqa: ANN401
    """Write a cell as text; moments in ISO 8601, whole numbers without a fraction."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return "" if value is None else str(value)


def _check_size(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    if "xl/workbook.xml" not in {part.filename for part in parts}:
        raise InvalidInput("file", "zip", "this is a zip archive but no XLSX workbook")
    if sum(part.file_size for part in parts) > WORKBOOK_BYTES:
        raise InvalidInput("file", "xlsx", f"the workbook unpacks to more than {WORKBOOK_BYTES} bytes; use CSV")
    for part in parts:
        resident = part.filename.endswith((".xml", ".rels")) and not part.filename.startswith("xl/worksheets/")
        if resident and part.file_size > RESIDENT_PART_BYTES:
            reason = f"this part unpacks to more than {RESIDENT_PART_BYTES} bytes; use CSV"
            raise InvalidInput("file", part.filename, reason)


def _damaged(error: BaseException) -> InvalidInput:
    if isinstance(error, InvalidInput):
        return error
    return InvalidInput("file", "xlsx", f"the workbook cannot be read: {type(error).__name__}: {error}")
