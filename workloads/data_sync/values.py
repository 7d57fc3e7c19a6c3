"""Typed values out of the texts of an export, as canonical texts that SQLite stores and PostgreSQL reads.

Each function takes a stripped text, gives None for "no value", and raises ValueError with the reason to show.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo

#: The zone of times that are written without an offset.
LOCAL_ZONE = ZoneInfo("Asia/Singapore")

#: What exports write for "none".
_NOTHING = frozenset({"", "-", "--", "N/A", "n/a", "NULL", "null"})

_COUNT = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})*|[0-9]+")
_AMOUNT = re.compile(
    r"(?:[A-Z]{0,3}\$|RM|Rp|[₱฿₫€£]|[A-Z]{3})?\s*"
    r"([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)"
)
_MOMENT = re.compile(r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}(?:[ T][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}.*)?)?")
_EPOCH = re.compile(r"[0-9]{9,10}")
_LONE_DIGIT = re.compile(r"(?<![0-9.])([0-9])(?![0-9])")

#: No number or moment is longer; what bounds the caches below, characters.
_LONGEST = 64


def parse_text(value: str) -> str | None:
    """Keep a text; an empty one is no value."""
    return value or None


@lru_cache(maxsize=4096)
def parse_count(value: str) -> str | None:
    """Read a whole number of things."""
    if value in _NOTHING:
        return None
    whole, _, fraction = value.partition(".")
    if whole.startswith("-") and _COUNT.fullmatch(whole[1:]):
        msg = "negative"
        raise ValueError(msg)
    if len(value) > _LONGEST or not _COUNT.fullmatch(whole) or fraction.strip("0"):
        msg = "not a whole number"
        raise ValueError(msg)
    digits = whole.replace(",", "").lstrip("0") or "0"
    if len(digits) > 10 or int(digits) > 2**31 - 1:
        msg = "number out of range"
        raise ValueError(msg)
    return digits


@lru_cache(maxsize=4096)
def parse_money(value: str) -> str | None:
    """Read an exact amount; a currency before it is passed over."""
    if value in _NOTHING:
        return None
    found = _AMOUNT.fullmatch(value)
    if not found or len(value) > _LONGEST:
        msg = "not an amount"
        raise ValueError(msg)
    try:
        amount = Decimal(found[1].replace(",", ""))
    except InvalidOperation:
        msg = "number out of range"
        raise ValueError(msg) from None
    if amount and amount.adjusted() >= 14:
        msg = "number out of range"
        raise ValueError(msg)
    if amount < 0:
        msg = "negative"
        raise ValueError(msg)
    if amount and amount.adjusted() < -4:
        msg = "more than four decimals"
        raise ValueError(msg)
    text = f"{amount:.4f}"
    if Decimal(text) != amount:
        msg = "more than four decimals"
        raise ValueError(msg)
    return text


@lru_cache(maxsize=4096)
def parse_moment(value: str) -> str | None:
    """Read a moment and give it in UTC, as `YYYY-MM-DD HH:MM:SS.ffffff`."""
    if value in _NOTHING:
        return None
    try:
        moment = _moment(value)
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    except (ValueError, OverflowError):
        msg = "not a date such as 2024-05-31 13:45"
        raise ValueError(msg) from None


def _moment(value: str) -> datetime:
    if _EPOCH.fullmatch(value):
        return datetime.fromtimestamp(int(value), UTC)
    if len(value) > _LONGEST or not _MOMENT.fullmatch(value):
        raise ValueError(value)
    moment = datetime.fromisoformat(_LONE_DIGIT.sub(r"0\1", value.replace("/", "-")))
    return moment if moment.tzinfo else moment.replace(tzinfo=LOCAL_ZONE)
