"""What a file is, from its first bytes: workbook or text, in which encoding and with which delimiter.

The guess is made once from the first `SAMPLE_BYTES`. It is exact for a byte order mark and for UTF-8; any other
encoding is the most likely one. A record that does not fit the guess is rejected later, never silently changed.
"""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass

from celeriac.errors import InvalidInput

SAMPLE_BYTES = 256 * 1024

DELIMITERS = (",", ";", "\t", "|")

#: charset-normalizer tries every codec it is given on all of its input: 32 KiB tell as much and take milliseconds.
_GUESSED_BYTES = 32 * 1024

#: The encodings that sellers' tools still write; fewer candidates make a short sample's guess better.
_LEGACY_ENCODINGS = ["gb18030", "big5", "big5hkscs", "shift_jis", "euc_kr", "cp1252", "cp1250", "cp1251", "cp874"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: A byte that is not UTF-8, as `surrogateescape` decodes it.
_FOREIGN = re.compile("[\udc80-\udcff]")

_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How to read a text file."""

    encoding: str
    delimiter: str
    #: The length of the byte order mark, to be skipped.
    mark_bytes: int


def is_workbook(head: bytes) -> bool:
    """Tell whether a file that begins like this is an XLSX workbook rather than text.

    Raises:
        InvalidInput: it is a kind of file that is not supported, or empty.
    """
    if not head.strip():
        raise InvalidInput("file", head[:20], "the file is empty; give a CSV or XLSX file with a header line")
    if head.startswith(_COMPOUND_FILE):
        raise InvalidInput("file", head[:8], "this is a legacy .xls or an encrypted workbook; save it as .xlsx or CSV")
    if head.startswith(_EMPTY_ZIP):
        raise InvalidInput("file", head[:4], "this is an empty zip archive; give a CSV or XLSX file")
    return head.startswith(_ZIP)


def text_format(head: bytes) -> TextFormat:
    """Guess encoding and delimiter from the first `SAMPLE_BYTES` of a file."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return TextFormat(encoding, _delimiter(_decoded(head[len(mark) :], encoding)), len(mark))
    encoding = _encoding(head)
    return TextFormat(encoding, _delimiter(_decoded(head, encoding)), 0)


def _decoded(head: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(head)


def _encoding(head: bytes) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        pass
    else:
        return _unmarked_utf16(head) or "utf-8"
    if wide := _unmarked_utf16(head):
        return wide
    if _mostly_utf8(head):
        return "utf-8"
    import charset_normalizer  # noqa: PLC0415 - few files need it, and it would cost every process memory

    best = charset_normalizer.from_bytes(_whole_lines(head[:_GUESSED_BYTES]), cp_isolation=_LEGACY_ENCODINGS).best()
    return best.encoding if best else "utf-8"


def _unmarked_utf16(head: bytes) -> str | None:
    """Find UTF-16 without a mark: the header's ASCII characters and every newline have their NUL on the same side."""
    even, odd = head[::2], head[1::2]
    for encoding, low, high in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        ends = [place for place, byte in enumerate(low[: len(high)]) if byte == ord("\n")]
        if ends and 0 in high[: ends[0]] and ord("\n") not in high and not any(high[place] for place in ends):
            return encoding
    return None


def _mostly_utf8(head: bytes) -> bool:
    """Tell a UTF-8 file with some broken lines from one in another encoding, by the lines that are not ASCII.

    A character of another encoding may well look like one of UTF-8; a whole line of them hardly ever does.
    """
    lines = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head).split("\n")
    broken = sum(_FOREIGN.search(line) is not None for line in lines)
    whole = sum(not line.isascii() for line in lines) - broken
    return whole * 2 > broken if whole > 0 else broken * 20 <= len(lines)


def _whole_lines(sample: bytes) -> bytes:
    # A character cut in two would rule out the right encoding.
    return sample[: sample.rfind(b"\n") + 1] or sample


def _delimiter(text: str) -> str:
    lines = [line for line in re.split("\r\n|\r|\n", text[:65_536])[:50] if line]
    if len(lines) > 1 and len(text) > 65_536:
        lines.pop()
    return max(DELIMITERS, key=lambda delimiter: _fitness(lines, delimiter))


def _fitness(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Score a delimiter: records that have as many columns as the header, then columns; a single one is no evidence."""
    try:
        counts = [len(record) for record in csv.reader(lines, delimiter=delimiter)]
    except csv.Error:
        return 0, 0
    if not counts or counts[0] < 2:
        return 0, 0
    return sum(count == counts[0] for count in counts), counts[0]
