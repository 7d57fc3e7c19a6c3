"""The session worker: a process of its own, with the name and the one slot that the suite expects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.utils.nodenames import anon_nodename

from tests.celery_suite.column import CONFIGURATION_VARIABLE, WORKER_LOG_VARIABLE, Transport
from tests.platform import CELERIAC

#: Seconds for the worker to answer after its start, and to end after SIGTERM.
PATIENCE_SECONDS = 60


@contextmanager
def session_worker(
    transport: Transport, app: Celery, configuration: Mapping[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker, once it answers a ping.

    Args:
        transport: which worker.
        app: the test process' app, to ping by.
        configuration: what the suite configures; for stock, as ours has the platform's.
    """
    # Named as a worker in the test process would be: tests of `inspect` look its answers up by that name.
    name = anon_nodename()
    path = Path(os.environ[WORKER_LOG_VARIABLE])
    variables = os.environ | {CONFIGURATION_VARIABLE: json.dumps(configuration)}
    with path.open("ab") as log:
        # In the process group of pytest, by which the column ends both.
        process = subprocess.Popen(_command(transport, name), env=variables, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not app.control.ping(destination=[name], timeout=1):
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"the {transport} worker does not answer:\n{path.read_text(errors='replace')[-4000:]}"
                raise RuntimeError(msg)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(transport: Transport, name: str) -> list[str | Path]:
    slot = ["--pool=prefork", "--concurrency=1", f"--hostname={name}"]
    if transport is Transport.CELERIAC:
        return [CELERIAC, "worker", "--queue=celery", *slot]
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel=INFO"]
    return [sys.executable, "-m", "celery", "-A", "tests.celery_suite.stock", "worker", *slot, *quiet]
