"""One column: a Redis server, a pytest process with its worker, and what became of each test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from celeriac.broker import broker_url
from tests.celery_suite.outcomes import FAILURES, Ended, Journal
from tests.celery_suite.selection import FILES
from tests.celery_suite.source import ROOT
from tests.platform import environment
from tests.servers import RedisServer

#: Variables by which a column tells its pytest process who it is.
TRANSPORT_VARIABLE = "CELERY_SUITE_TRANSPORT"
JOURNAL_VARIABLE = "CELERY_SUITE_JOURNAL"
WORKER_LOG_VARIABLE = "CELERY_SUITE_WORKER_LOG"
#: Variable by which the stock worker is given the suite's configuration, as JSON.
CONFIGURATION_VARIABLE = "CELERY_SUITE_CONFIGURATION"

#: Seconds for one test with its set-up and teardown; those that allow themselves less keep that. The longest needs 160.
TEST_SECONDS = 240

#: Seconds after which a column is cut off, 90 minutes: what has not ended by then did not pass.
COLUMN_SECONDS = 90 * 60


class Transport(StrEnum):
    """What carries the messages, and names the column."""

    STOCK = "stock"
    CELERIAC = "celeriac"


@dataclass(frozen=True)
class Column:
    """What became of the tests of one column."""

    transport: Transport
    tests: Mapping[str, Ended]
    seconds: float
    #: Whether pytest came to its own end.
    complete: bool

    @property
    def failed(self) -> list[str]:
        """The tests that somebody has to look at."""
        return [name for name, end in self.tests.items() if end.outcome in FAILURES]


def run_column(transport: Transport, suite: Path, logs: Path, selected: str | None = None) -> Column:
    """Run the selection on a Redis server of its own.

    Args:
        transport: the column.
        suite: the folder in which Celery's source distribution was unpacked.
        logs: where pytest's and the worker's output go.
        selected: what pytest's `-k` takes, to run fewer tests; None for all.
    """
    logs.mkdir(parents=True, exist_ok=True)
    journal = logs / f"{transport}.jsonl"
    journal.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *(f"t/integration/{name}" for name in FILES)]
    command += ["-c", "pyproject.toml", "-p", "tests.celery_suite.plugin", "-p", "no:cacheprovider", "-rA"]
    command += ["-p", "no:rerunfailures"]  # many tests ask for reruns
    command += ["-k", selected] if selected else []
    started = time.monotonic()
    with RedisServer() as server:
        _keep_in_memory(server.url)
        variables = _variables(transport, server.url, suite, logs) | {JOURNAL_VARIABLE: str(journal)}
        with (logs / f"{transport}.pytest.log").open("wb") as log:
            ended = _run(command, suite, environment(**variables), log.fileno())
    return Column(transport, Journal(journal).read(), time.monotonic() - started, complete=ended)


def _keep_in_memory(redis_url: str) -> None:
    # No test restarts the server, and one of 42 tasks in a second would measure how busy the disk is.
    with Redis.from_url(redis_url) as client:
        client.config_set("appendonly", "no")


def _variables(transport: Transport, redis_url: str, suite: Path, logs: Path) -> dict[str, str]:
    server = urlsplit(redis_url)
    shared = {
        TRANSPORT_VARIABLE: transport,
        WORKER_LOG_VARIABLE: str(logs / f"{transport}.worker.log"),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(suite), str(ROOT)])),
        # What the suite itself reads; its tasks, too, speak to Redis.
        "TEST_BROKER": redis_url if transport is Transport.STOCK else broker_url(redis_url),
        "TEST_BACKEND": redis_url,
        "REDIS_HOST": str(server.hostname),
        "REDIS_PORT": str(server.port),
    }
    if transport is Transport.STOCK:
        return shared
    return shared | {
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{logs / 'celeriac.db'}",
        "CELERIAC_DATA_DIR": str(logs),
        "CELERIAC_WORKLOADS": "tests.celery_suite.workload",
        "CELERIAC_LOG__FORMAT": "console",
    }


def _run(command: list[str], folder: Path, variables: Mapping[str, str], output: int) -> bool:
    """Run pytest; whatever happens, neither it nor the worker that it starts outlives this."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return process.wait(COLUMN_SECONDS) in {0, 1}  # all passed, or some failed
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):  # nobody is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
