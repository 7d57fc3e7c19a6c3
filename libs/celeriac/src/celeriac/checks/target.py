"""Ways to stop and start parts of a deployment."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Protocol

from celeriac.checks.deployment import CheckFailed
from celeriac.errors import CeleriacError

#: How long a command may take, seconds.
COMMAND_SECONDS = 120


class Part(Enum):
    """What can be stopped."""

    #: The workers of the queue that checks use.
    WORKER = "worker"
    REDIS = "Redis"
    #: All of the deployment but an external Redis and the database.
    STACK = "stack"


class NotPossible(CeleriacError):
    """A check that cannot be run here; the message says why and what would help."""

    title = "Not possible"
    code = "not-possible"
    way_out = "Give the commands that stop and start the part, or leave the check out by `--skip`."


class Target(Protocol):
    """How a deployment is stopped and started."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    def stop(self, part: Part) -> None:
        """Kill a part, which stays away until `start`.

        Raises:
            NotPossible: this deployment has no such part, or it cannot be stopped.
            CheckFailed: stopping it failed.
        """

    def start(self, part: Part) -> None:
        """Start it again and wait until its processes have begun, though not until they serve.

        What was not stopped is left alone.

        Raises:
            CheckFailed: it did not start.
        """


@contextmanager
def stopped(target: Target, part: Part) -> Iterator[None]:
    """Have a part stopped for as long as a block runs; it is started again however that ends."""
    try:
        target.stop(part)
        yield
    finally:
        target.start(part)


class Nothing:
    """No way to stop anything: the measurements that need none can still be made."""

    name = "nothing is stopped"

    def stop(self, part: Part) -> None:
        """Refuse."""
        msg = f"nothing says how the {part.value} is stopped; give --target, or --stop-worker and its like"
        raise NotPossible(msg)

    def start(self, part: Part) -> None:
        """Do nothing: nothing was stopped."""


class Commands:
    """Shell commands that stop and start worker and Redis; the stack is both.

    Args:
        stop: the command for each part that can be stopped.
        start: the command that starts it again.
    """

    name = "commands"

    def __init__(self, stop: dict[Part, str], start: dict[Part, str]) -> None:
        self._stop = stop
        self._start = start
        self._stopped: set[Part] = set()

    def stop(self, part: Part) -> None:
        """Run the commands that stop a part."""
        parts = _parts(part)
        for each in parts:
            for verb, commands in (("stop", self._stop), ("start", self._start)):
                if each not in commands:
                    msg = f"the {each.value} cannot be stopped and started: give --{verb}-{each.name.lower()}"
                    raise NotPossible(msg)
        for each in parts:
            self._stopped.add(each)
            _run(f"--stop-{each.name.lower()}", self._stop[each])

    def start(self, part: Part) -> None:
        """Run the commands that start it."""
        for each in reversed(_parts(part)):
            if each in self._stopped:
                self._stopped.remove(each)
                _run(f"--start-{each.name.lower()}", self._start[each])


def _parts(part: Part) -> list[Part]:
    return [Part.WORKER, Part.REDIS] if part is Part.STACK else [part]


def _run(option: str, command: str) -> None:
    # A file and no pipe: what the command leaves running in the background keeps its output open.
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(  # noqa: S602 - it is the tester's own command line
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=COMMAND_SECONDS,
                start_new_session=True,
            ).returncode
        except subprocess.TimeoutExpired:
            msg = f"{option}: `{command}` did not end within {COMMAND_SECONDS} s; put it into the background"
            raise CheckFailed(msg) from None
        if code:
            output.seek(0)
            said = output.read().strip().splitlines()
            msg = f"{option}: `{command}` ended with {code}" + (f": {said[-1]}" if said else "")
            raise CheckFailed(msg)
