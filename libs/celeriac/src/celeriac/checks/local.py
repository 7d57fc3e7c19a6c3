"""Kills what `celeriac up` runs on this machine."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from celeriac.checks.deployment import CheckFailed
from celeriac.checks.target import NotPossible, Part
from celeriac.errors import ConfigurationError

#: How often a part that is to stay away is looked for, seconds.
_HOLD_SECONDS = 0.05

#: `celeriac up` starts a process that dies at once; one that dies again and again, within 10 s.
_START_SECONDS = 30


class Local:
    """The platform that runs on a data directory.

    A part is killed by SIGKILL. `celeriac up` starts at once what dies, so a part that is to stay away is killed again
    whenever it comes: it may serve for some milliseconds now and then, and nothing has to be put right if the check
    itself is killed.

    Args:
        data_dir: the directory.
        queue: the queue whose worker is killed.

    Raises:
        ConfigurationError: no platform runs there.
    """

    name = "local"

    def __init__(self, data_dir: Path, queue: str) -> None:
        self._data_dir = data_dir.absolute()
        self._queue = queue
        self._supervisor = _supervisor(self._data_dir)
        self._holds: dict[Part, tuple[threading.Event, threading.Thread, int]] = {}

    def stop(self, part: Part) -> None:
        """Kill a part, and whatever is started in its place.

        Raises:
            NotPossible: `celeriac up` runs no such process.
        """
        found = self._find(part)
        if not found:
            msg = f"the {part.value} is no process of the `celeriac up` on {self._data_dir.name}; is it external?"
            raise NotPossible(msg)
        victims = [victim for process in found for victim in _kill(process)]
        _wait(lambda: not any(map(_lives, victims)), f"the {part.value} to end")
        released = threading.Event()
        thread = threading.Thread(target=self._hold, args=(part, released), name="hold", daemon=True)
        self._holds[part] = released, thread, len(found)
        thread.start()

    def start(self, part: Part) -> None:
        """Let `celeriac up` start it again."""
        if part not in self._holds:
            return
        released, thread, count = self._holds.pop(part)
        released.set()
        thread.join()
        _wait(lambda: len(self._find(part)) >= count, f"`celeriac up` to start the {part.value} again")

    def _hold(self, part: Part, released: threading.Event) -> None:
        while not released.wait(_HOLD_SECONDS):
            for process in self._find(part):
                _kill(process)

    def _find(self, part: Part) -> list[psutil.Process]:
        """The living processes of a part that `celeriac up` itself has started."""
        return [child for child in self._supervisor.children() if _lives(child) and self._belongs(child, part)]

    def _belongs(self, process: psutil.Process, part: Part) -> bool:
        try:
            if part is Part.REDIS:
                return Path(process.cwd()) == (self._data_dir / "redis").resolve()
            line = " ".join([*process.cmdline(), ""])
        except psutil.Error:
            return False  # it ends just now
        return part is Part.STACK or f"celeriac worker {self._queue} " in line


def _supervisor(data_dir: Path) -> psutil.Process:
    """The `celeriac up` of a directory: whoever holds its lock, in which it writes its process id."""
    try:
        with (data_dir / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return psutil.Process(int((data_dir / "lock").read_text()))
    except OSError:
        pass
    msg = f"--target local: no platform runs on {data_dir}; start `celeriac up`, or name its directory with --data-dir"
    raise ConfigurationError(msg)


def _kill(process: psutil.Process) -> list[psutil.Process]:
    """Kill a process with all that it has started, and give them."""
    try:
        victims = [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    return victims


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            msg = f"waited {_START_SECONDS} s for {what}"
            raise CheckFailed(msg)
        time.sleep(_HOLD_SECONDS)
