"""Worker process groups that can be killed, stopped and paused; each tells the ledger what is done to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.platform import CELERIAC
from tests.soak.ledger import Exited, Killed, Ledger, Paused, Ready, Resumed, Spawned, Stopping, now

#: Seconds that a worker has to end after SIGTERM.
STOP_SECONDS = 60


class Worker:
    """One `celeriac worker` with all its processes.

    Args:
        name: what the ledger calls it.
        queues: what it consumes.
        slots: how many tasks it runs at a time.
        pool: how it runs them; None for the default.
        ledger: where to tell what happens.
        environment: its environment.
        folder: its working directory; its output goes to `logs/<name>.log` there.
    """

    def __init__(
        self,
        name: str,
        queues: Sequence[str],
        slots: int,
        pool: str | None,
        *,
        ledger: Ledger,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name, self.queues, self.slots = name, tuple(queues), slots
        self._ledger = ledger
        options = [f"--queue={queue}" for queue in queues]
        options += [f"--concurrency={slots}", *([f"--pool={pool}"] if pool else [])]
        self.log = folder / "logs" / f"{name}.log"
        self.log.parent.mkdir(exist_ok=True)
        ledger.append(Spawned(at=now(), worker=name, queues=list(queues), slots=slots))
        self.spawned_at = now()
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C must reach the trial alone, which then ends its workers.
            self._process = subprocess.Popen(
                [CELERIAC, "worker", *options],
                env={**environment, "SOAK_WORKER": name},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.ready = False
        self.stopping = False
        self.over = False

    def kill(self) -> float:
        """Kill the whole group; gives the time just before."""
        if self.has_ended():
            return now()
        at = self._end_group()
        self._ledger.append(Killed(at=at, until=now(), worker=self.name))
        return at

    def stop(self) -> None:
        """Ask it to stop as Kubernetes does, by SIGTERM to its first process."""
        if not self.stopping and not self.has_ended():
            self.stopping = True
            self._ledger.append(Stopping(at=now(), worker=self.name))
            self._process.terminate()

    def wait(self) -> None:
        """Wait for its end after `stop`; one that does not end is killed.

        Raises:
            AssertionError: it had to be killed.
        """
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"worker {self.name} did not end within {STOP_SECONDS} s of SIGTERM; see {self.log}"
            raise AssertionError(message) from None
        self.has_ended()

    def pause(self) -> float:
        """Stop the whole group where it stands; gives the time just after."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        self._ledger.append(Paused(at=(at := now()), worker=self.name))
        return at

    def resume(self) -> float:
        """Let the group go on; gives the time just before."""
        self._ledger.append(Resumed(at=(at := now()), worker=self.name))
        os.killpg(self._process.pid, signal.SIGCONT)
        return at

    def has_ended(self) -> bool:
        """Whether it is over, and tell the ledger once where it ended by itself or as it was asked."""
        if not self.over and self._process.poll() is not None:
            self._ledger.append(Exited(at=now(), worker=self.name, code=self._process.returncode))
            self._end_group()
        return self.over

    def is_me(self, pid: int) -> bool:
        """Whether a process belongs to it."""
        if pid == self._process.pid:
            return True
        return any(process.pid == pid for process in self.processes())

    def processes(self) -> list[psutil.Process]:
        """Its living processes, the first one first."""
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def note_ready(self) -> None:
        """Tell the ledger that the registry knows it."""
        self.ready = True
        self._ledger.append(Ready(at=now(), worker=self.name))

    def print_stacks(self) -> None:
        """Have every process print its stacks into the log.

        A process without a handler would die of the signal, so it is sent only where one is installed.
        """
        for process in self.processes():
            for number in (signal.SIGUSR2, signal.SIGUSR1):
                if _catches(process.pid, number):
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, number)
                    time.sleep(0.1)  # it cannot say that it has printed, and all print into one file
                    break

    def _end_group(self) -> float:
        self.over = True
        # A process that left the group would go with its parent, but perhaps not in the same instant.
        others = [process for process in self.processes() if not self._in_group(process)]
        at = now()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        return at

    def _in_group(self, process: psutil.Process) -> bool:
        try:
            return os.getpgid(process.pid) == self._process.pid
        except ProcessLookupError:
            return True


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)
