"""Runs Schemathesis against a platform that is up."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from celeriac import CeleriacApp
from celeriac.broker.leases import Delivery
from tests.platform import Platform

CONFIG = Path(__file__).with_name("schemathesis.toml")

#: How often what was used up is made anew, seconds.
SUPPLY_SECONDS = 0.5

#: The environment of a platform that is tested so.
VARIABLES = {
    "CELERIAC_WORKLOADS": "workloads.data_sync,workloads.examples,tests.contract",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


class Supply:
    """Keeps making what no operation makes by itself: tasks that have failed, and dead letters.

    Args:
        platform: runs the API and a worker of `contract`.
        app: of the same Redis.
    """

    def __init__(self, platform: Platform, app: CeleriacApp) -> None:
        self._platform = platform
        self._app = app
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supply", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(SUPPLY_SECONDS):
            self._platform.submit("contract.fail")
            self._app.send_task("contract.give_back", queue="scheduled")
            claimed = self._app.leases.claim(["scheduled"], 1)[1:]
            if claimed:  # not while the queue is paused
                assert self._app.leases.bury(Delivery("scheduled", int(claimed[0])), "rejected", "it is tired")


def run_schemathesis(platform: Platform, *, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run all phases with all checks, and say what was found.

    Args:
        platform: runs the API.
        seconds: how long; what is begun is ended.
        seed: repeats a run's choices, as far as it gets in its time.
    """
    program = Path(sys.executable).with_name("schemathesis")
    where = f"http://127.0.0.1:{platform.port}/openapi.json"
    command = [program, "--config-file", CONFIG, "run", where, "--max-time", str(seconds), "--seed", str(seed)]
    return subprocess.run(
        command,
        env=platform.environment,
        cwd=platform.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 240,
        check=False,
    )
