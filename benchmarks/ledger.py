"""Who ran what and when: a file that every worker appends to, whatever its broker is.

The measured tasks must not use Redis themselves, or their own traffic would be measured too; and what a killed worker
did must survive it. An append of 16 bytes to one file does both, at a few microseconds.

    ledger.append(7)                    # in the task
    Ledger(path).entries()              # in the benchmark
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Tells the worker's processes where their ledger is.
VARIABLE = "BENCH_LEDGER"

#: What tasks append that only hold a slot until the gate opens.
GATE = -1

#: Nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share; the task's number; the worker's session.
_RECORD = struct.Struct("<qii")


@dataclass(frozen=True)
class Entry:
    """One execution."""

    #: Nanoseconds of CLOCK_MONOTONIC when the task's body began.
    at_ns: int
    index: int
    #: The session of the worker, which is the process id of its leader.
    session: int


class Ledger:
    """The file as the benchmark sees it, and the gate beside it.

    Args:
        path: where it is; made empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def count(self) -> int:
        """How many executions there are, gates included."""
        return self.path.stat().st_size // _RECORD.size

    def entries(self, start: int = 0) -> list[Entry]:
        """Read the executions in the order of their appends.

        Args:
            start: how many to leave out.
        """
        with self.path.open("rb") as file:
            file.seek(start * _RECORD.size)
            content = file.read()
        whole = len(content) - len(content) % _RECORD.size
        return [Entry(*record) for record in _RECORD.iter_unpack(content[:whole])]

    def open_gate(self) -> None:
        """Let go the tasks that wait in `pass_gate`."""
        _gate(self.path).touch()


def append(index: int) -> None:
    """Note that the task with this number has begun; to be called first thing in its body."""
    at_ns = time.monotonic_ns()
    os.write(_descriptor(), _RECORD.pack(at_ns, index, os.getsid(0)))


def pass_gate() -> None:
    """Hold this slot until the benchmark opens the gate."""
    append(GATE)
    gate = _gate(Path(os.environ[VARIABLE]))
    while not gate.exists():
        time.sleep(0.002)


def tasks_of(entries: Iterable[Entry]) -> list[Entry]:
    """The executions without the gates, by time."""
    return sorted((entry for entry in entries if entry.index != GATE), key=lambda entry: entry.at_ns)


def _gate(path: Path) -> Path:
    return path.with_suffix(".gate")


@cache
def _descriptor() -> int:
    # Shared with children that fork later, which is fine: every write appends.
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND)
