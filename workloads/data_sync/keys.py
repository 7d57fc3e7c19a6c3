"""The key of a row: what makes two rows, of one file or of several, the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter

from workloads.data_sync.records import Prepared, Rejection

_SEPARATOR = "\x1f"

#: A longer key is stored as its digest: PostgreSQL cannot index texts of more than about 2,700 bytes.
KEY_CHARS = 200


def make_keys(rows: Sequence[Sequence[str]], indexes: Sequence[int]) -> list[str]:
    """Give the key of each row: its key values joined, or a digest where that would be long or ambiguous.

    Args:
        rows: the values of each row.
        indexes: where the key values are; at least one.
    """
    if len(indexes) == 1:
        keys = list(map(itemgetter(indexes[0]), rows))
    else:
        keys = list(map(_SEPARATOR.join, map(itemgetter(*indexes), rows)))
    separators = len(indexes) - 1
    ambiguous = separators > 0 and "".join(keys).count(_SEPARATOR) != separators * len(keys)
    if ambiguous or max(map(len, keys), default=0) > KEY_CHARS:
        for at, key in enumerate(keys):
            if len(key) > KEY_CHARS or (ambiguous and key.count(_SEPARATOR) != separators):
                keys[at] = _digest([rows[at][index] for index in indexes])
    return keys


def _digest(values: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for value in values:
        encoded = value.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return f"#{digest.hexdigest()}"


def shown_key(key: str) -> str:
    """Write a key for a person."""
    return key.replace(_SEPARATOR, ", ")


def repeated(line: int, key: str, first_line: int, column: str | None) -> Rejection:
    """Refuse a row whose key an earlier one of its file has."""
    return Rejection(line, column, shown_key(key), f"same key as line {first_line}")


def without_unusable_keys(rows: Prepared, column: str | None) -> Prepared:
    """Refuse the rows with an empty key, and all but the first of those that share one.

    Args:
        rows: rows in the order of the file.
        column: the name to give as the one at fault.
    """
    if all(map(str.strip, rows.keys)) and len(set(rows.keys)) == len(rows.keys):
        return rows
    seen: dict[str, int] = {}
    usable: list[bool] = []
    for key, line in zip(rows.keys, rows.lines, strict=True):
        first = seen.setdefault(key, line)
        if not key.strip():
            rows.rejections.append(Rejection(line, column, shown_key(key), "the key is empty"))
        elif first != line:
            rows.rejections.append(repeated(line, key, first, column))
        usable.append(bool(key.strip()) and first == line)
    return Prepared(
        list(compress(rows.keys, usable)),
        list(compress(rows.lines, usable)),
        [list(compress(values, usable)) for values in rows.columns],
        rows.rejections,
    )
