"""Arithmetic of spans of time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

#: From when to when, seconds of the ledger's clock.
Interval = tuple[float, float]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Put intervals in order, and together where they touch."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > begin:
            found.append((begin, end))
    return found


def overlap(intervals: list[Interval], window: Interval) -> list[Interval]:
    """The parts of intervals, which are in order, within a window."""
    first = max(0, bisect_left(intervals, (window[0],)) - 1)
    found = []
    for number in range(first, len(intervals)):
        begin, end = max(intervals[number][0], window[0]), min(intervals[number][1], window[1])
        if intervals[number][0] >= window[1]:
            break
        if end > begin:
            found.append((begin, end))
    return found


def subtract(intervals: list[Interval], others: list[Interval]) -> list[Interval]:
    """The parts of intervals that lie in none of the others; both are in order."""
    found = []
    for begin, end in intervals:
        at = begin
        for other_begin, other_end in others:
            if other_end <= at or other_begin >= end:
                continue
            if other_begin > at:
                found.append((at, other_begin))
            at = max(at, other_end)
        if at < end:
            found.append((at, end))
    return found


def length(intervals: Iterable[Interval]) -> float:
    """How long intervals are together."""
    return sum(end - begin for begin, end in intervals)
