"""Keeps a set of processes running, and ends them all when it ends.

Every process stays in the supervisor's process group and has Ctrl-C and SIGHUP blocked: the terminal sends them to the
whole group, and Redis must outlive the workers that still acknowledge. A process that dies is started again; if the
supervisor itself is killed, Linux ends its children (macOS does not).
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from celeriac.process import die_with_parent

log = structlog.get_logger(__name__)

#: A process that ran so long before it died is started again at once, seconds.
STABLE_SECONDS = 10
#: The longest wait before a process that dies again and again is started again, seconds.
MAX_DELAY_SECONDS = 10
#: How long running tasks may take to end after Ctrl-C, seconds; then they go back to their queue.
WARM_SECONDS = 10
#: How long processes may take to end after that, before they are killed, seconds.
COLD_SECONDS = 5


@dataclass
class Role:
    """A process that is to run."""

    name: str
    command: Sequence[str]
    #: Sent when it did not end in time after SIGTERM; SIGQUIT makes a worker return its tasks.
    second_signal: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0
    start_at: float = 0
    delay: float = 0
    starts: int = field(default=0)

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs roles until it is told to stop.

    Args:
        environment: the environment of all processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._roles: list[Role] = []
        self.stopping = 0

    def install_signals(self) -> None:
        """Let Ctrl-C, SIGTERM and the end of the terminal stop the platform; a second one does not wait for tasks."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.stopping += 1

    def run_once(self, command: Sequence[str]) -> int:
        """Run a command to its end and return its exit code."""
        return subprocess.run(  # noqa: S603 - commands are our own
            command,
            env=self._environment,
            check=False,
            preexec_fn=_prepare,
        ).returncode

    def start(self, role: Role) -> None:
        """Start a role and keep it running."""
        self._roles.append(role)
        self._spawn(role)

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Keep all roles running until a condition holds; False where the time ran out or it was told to stop."""
        deadline = time.monotonic() + timeout_seconds
        while not self.stopping and time.monotonic() < deadline:
            if condition():
                return True
            self._tend()
            time.sleep(0.05)
        return False

    def run(self) -> None:
        """Keep all roles running until told to stop."""
        while not self.stopping:
            self._tend()
            time.sleep(0.2)

    def stop(self) -> None:
        """End all roles; the one that was started first, Redis, when all others have ended."""
        self._stop(self._roles[1:])
        self._stop(self._roles[:1])

    def _stop(self, roles: Sequence[Role]) -> None:
        running = [role for role in roles if role.runs]
        patience = self.stopping
        _signal(running, signal.SIGTERM)
        deadline = time.monotonic() + WARM_SECONDS
        while any(role.runs for role in running) and time.monotonic() < deadline and self.stopping <= patience:
            time.sleep(0.05)
        for role in running:
            if role.runs:
                log.warning("stopping_cold", process=role.name)
                _signal([role], role.second_signal)
        deadline = time.monotonic() + COLD_SECONDS
        while any(role.runs for role in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(running, signal.SIGKILL)
        for role in running:
            if role.process is not None:
                role.process.wait()

    def _spawn(self, role: Role) -> None:
        role.started_at = time.monotonic()
        role.starts += 1
        role.process = subprocess.Popen(  # noqa: S603 - commands are our own
            role.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=_prepare,  # noqa: PLW1509 - this process has no other thread
        )

    def _tend(self) -> None:
        now = time.monotonic()
        for role in self._roles:
            if role.process is not None:
                code = role.process.poll()
                if code is None:
                    continue
                stable = now - role.started_at >= STABLE_SECONDS
                role.delay = 0 if stable or role.starts == 1 else min(max(1, role.delay * 2), MAX_DELAY_SECONDS)
                role.start_at = now + role.delay
                role.process = None
                log.warning("process_died", process=role.name, exit_code=code, restart_in_seconds=role.delay)
            if now >= role.start_at:
                self._spawn(role)


def _prepare() -> None:
    """Leave what the terminal sends to the supervisor; Celery would start itself anew at SIGHUP."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    die_with_parent(signal.SIGTERM)


def _signal(roles: Sequence[Role], number: signal.Signals) -> None:
    for role in roles:
        if role.process is not None and role.runs:
            role.process.send_signal(number)
