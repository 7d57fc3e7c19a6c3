"""The process above a worker: it keeps its leases, answers its probes, and cleans up after it."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from celeriac.broker.holder import Holder
from celeriac.broker.keeper import Keeper, finish
from celeriac.broker.table import EntryState, LeaseTable
from celeriac.execution.condition import Condition
from celeriac.execution.metrics import LEASE_EXPIRATIONS, exposition
from celeriac.process import die_with_parent
from celeriac.registry.heartbeat import Heartbeat
from celeriac.registry.probe_server import Answer, Probes

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

#: Before the end of its grace period a worker returns what still runs: time to do it, and for Kubernetes' own delays.
RETURN_SECONDS = 20.0

#: A worker that ends sooner after its start than this is not replaced at once: whoever started it knows how to wait.
_MIN_LIFE_SECONDS = 10.0

#: How often the supervisor looks after its worker when nothing happens, seconds.
_LOOK_SECONDS = 1.0

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """Runs one worker.

    Args:
        app: the platform.
        name: the worker's node name.
        queues: the queues that it is to consume.
        slots: tasks that it runs at a time.
        pool: how it runs them.
    """

    def __init__(self, app: CeleriacApp, name: str, queues: list[str], slots: int, pool: str) -> None:
        self._app = app
        self._name = name
        self._table = LeaseTable()
        self._condition = Condition(app, self._table, name=name, queues=queues, slots=slots, pool=pool)
        self._signals: list[int] = []
        self._started_at = time.monotonic()
        self._kill_at: float | None = None
        self._stopping = False

    def run(self, worker: Callable[[], int]) -> int:
        """Run a worker to its end.

        Args:
            worker: what the worker does, in a process of its own; it gives the exit code.

        Returns:
            The exit code: the worker's own; 1 if it was killed. A worker that ends without having been told to is
            replaced, unless it has just begun; then this does not return.
        """
        probes = Probes(
            self._app,
            silent_seconds=lambda: self._condition.silent_seconds,
            not_ready=self._condition.not_ready,
            pages={"/metrics": _metrics},
        )
        server = probes.listen()
        # Objects made so far are left out of garbage collection, which would copy their pages into every process.
        gc.collect()
        gc.freeze()
        child = os.fork()
        if child == 0:
            if server is not None:
                server.socket.close()
            # A worker whose supervisor is gone has nobody to renew its leases.
            die_with_parent(signal.SIGKILL)
            Holder.supervise(self._table)
            return worker()
        wakes = self._listen()
        keeper = Keeper(
            self._app.endpoint,
            self._app.keys,
            self._table,
            on_expired=lambda queue: LEASE_EXPIRATIONS.labels(queue).inc(),
            chore=self._app.sweep,
        )
        keeper.start()
        heartbeat = Heartbeat(self._app, self._condition.record)
        heartbeat.start()
        probes.serve(server)
        code = self._watch(child, wakes)
        heartbeat.stop()
        self._clean_up(code)
        keeper.stop()
        if code != 0 and not self._stopping and time.monotonic() - self._started_at > _MIN_LIFE_SECONDS:
            self._replace(code)
        if self._stopping and code == -signal.SIGKILL:
            return 0  # it was told to stop, and did
        return code if code >= 0 else 1

    def _listen(self) -> socket.socket:
        receiver, sender = socket.socketpair()
        receiver.settimeout(0)
        sender.settimeout(0)
        signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
        for number in (*_STOP_SIGNALS, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, self._note)
        return receiver

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _watch(self, child: int, wakes: socket.socket) -> int:
        while True:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # in a container, the orphans of a killed worker as well
                if ended[0] == child:
                    return os.waitstatus_to_exitcode(ended[1])
            while self._signals:
                self._obey(self._signals.pop(0), child)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                log.warning("worker_stopped_cold", worker=self._name, busy=self._table.busy)
                self._kill_at = None
                os.kill(child, signal.SIGKILL)
            if not self._stopping and self._is_stuck():
                log.error("worker_stuck", worker=self._name, silent_seconds=round(self._condition.silent_seconds, 1))
                os.kill(child, signal.SIGKILL)
            select.select([wakes], [], [], _LOOK_SECONDS)
            with suppress(BlockingIOError):
                wakes.recv(4096)

    def _obey(self, number: int, child: int) -> None:
        if number in _STOP_SIGNALS and not self._stopping:
            self._stopping = True
            self._table.stop()
            os.kill(child, signal.SIGTERM)
            grace = self._app.settings.worker.grace_period_seconds
            if grace is not None:
                self._kill_at = time.monotonic() + max(grace - RETURN_SECONDS, grace / 2)
            log.info("worker_stopping", worker=self._name, busy=self._table.busy)
        elif number == signal.SIGQUIT:
            self._stopping = True
            self._table.stop()
            self._kill_at = time.monotonic()

    def _is_stuck(self) -> bool:
        if self._condition.silent_seconds <= self._app.settings.probe.stuck_seconds:
            return False
        # Without an answer of Redis a loop stands still for a good reason; and while messages are held, one may be a
        # task that keeps the loop from turning.
        redis_answers = time.monotonic() - self._table.renewed_at < _LOOK_SECONDS * 3
        return redis_answers and not any(entry.state is EntryState.HELD for entry in self._table.entries())

    def _clean_up(self, code: int) -> None:
        what = f"its worker ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        try:
            finish(self._table, self._app.leases, None if self._stopping or code == 0 else what)
            self._app.registry.remove(self._name)
        except (RedisError, OSError) as error:
            log.warning("deliveries_left", worker=self._name, error=str(error))

    def _replace(self, code: int) -> None:
        log.error("worker_replaced", worker=self._name, exit_code=code)
        sys.stdout.flush()
        sys.stderr.flush()
        # The process of the same number begins anew: forking once more would copy its threads' locks.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command


def _metrics() -> Answer:
    return Answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", exposition())
