"""Runs `celeriac up` as users do."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self

import psutil

from tests.platform import CELERIAC, TOKEN, api_client, environment, wait_for
from tests.servers import free_port


class Up:
    """A running `celeriac up` in a process group of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.log = folder / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [CELERIAC, "up", "--port", str(self.port), "--data-dir", str(self.data_dir)],
                env=environment(CELERIAC_API_TOKEN=TOKEN, **variables),
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.http = api_client(self.port, timeout_seconds=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.http.close()

    def wait_until_ready(self) -> None:
        wait_for(lambda: "is up" in self.log.read_text() or self.process.poll() is not None, "the greeting", 60)
        assert "is up" in self.log.read_text(), self.log.read_text()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, role: str) -> psutil.Process | None:
        """The oldest process of a role: of a worker, its main one."""

        def has_role(process: psutil.Process) -> bool:
            try:
                return role in " ".join(process.cmdline())
            except psutil.Error:
                return False  # it ends just now, or waits for its parent to notice

        found = [each for each in self.processes() if has_role(each)]
        return min(found, key=lambda each: each.create_time(), default=None)
