"""Which keys an object may have: the same for every store, so that files can move from one to another."""

from __future__ import annotations

import re

from celeriac.errors import InvalidInput

#: Characters of a whole key: what the column of the database store holds, and S3 allows 1024 with the prefix.
MAX_KEY_LENGTH = 512
#: Characters of one segment: a file name may have 255, and a store adds a suffix while it writes.
MAX_SEGMENT_LENGTH = 200

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


def check_key(key: str) -> str:
    """Give the key back when every store can hold it.

    Raises:
        InvalidInput: the key has another character, an empty segment, `.` or `..` as one, or is too long.
    """
    segments = key.split("/")
    if len(key) > MAX_KEY_LENGTH or any(len(segment) > MAX_SEGMENT_LENGTH for segment in segments):
        reason = f"use at most {MAX_KEY_LENGTH} characters, and {MAX_SEGMENT_LENGTH} between two slashes"
        raise InvalidInput("key", key, reason)
    if any(segment in {".", ".."} or not _SEGMENT.fullmatch(segment) for segment in segments):
        reason = "use letters, digits, '-', '_' and '.', with single '/' between segments, none of them '.' or '..'"
        raise InvalidInput("key", key, reason)
    return key
