"""What passes from reading a file to writing its rows: records in blocks, and the refusals among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

#: The longest value that a rejection shows, characters.
SHOWN_CHARS = 500

#: What no database takes as text: NUL, and the surrogates that stand for bytes outside the file's encoding.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was refused."""

    #: The physical line, or sheet row, where the record starts; the first is 1.
    line: int
    #: The column that is at fault; None when it is the record as a whole.
    column: str | None
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of a file; every one of them is in `rows` or in `rejections`."""

    #: The values of each good record, as many as the file has columns; storable text all of them.
    rows: list[list[str]]
    #: Where each of `rows` starts.
    lines: Sequence[int]
    #: All values of `rows` in one text, so that one search tells whether any of them needs a closer look.
    text: str
    rejections: list[Rejection]
    #: Physical lines, or sheet rows, of the file up to the end of this block.
    end: int


@dataclass(slots=True)
class Prepared:
    """Rows ready for a table: each list has one entry a row, and no key occurs twice."""

    keys: list[str]
    lines: Sequence[int]
    #: One list a column of the target, in its order; texts that the database reads, None for null.
    columns: list[list[str | None]]
    rejections: list[Rejection] = field(default_factory=list)


def storable(text: str) -> bool:
    """Tell whether every database takes this text."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: str) -> str:
    """Give a value as a rejection may store it: shortened, and with hexadecimal escapes for what is no text."""
    safe = _UNSTORABLE.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", value[:SHOWN_CHARS])
    return safe[:SHOWN_CHARS]
