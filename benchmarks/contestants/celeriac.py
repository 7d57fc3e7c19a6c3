"""Celeriac: `celeriac worker`, and the app that `create_app` makes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.contestants import messages
from benchmarks.contestants.contestant import QUEUE, ROOT, SLOTS, Contestant, script
from celeriac.app import create_app
from celeriac.settings import Settings
from tests.platform import environment

WORKLOAD = "benchmarks.contestants.workers.workload"


class Celeriac(Contestant):
    """Celeriac with its defaults.

    Args:
        redis_url: an empty Redis.
        folder: an empty folder.
        prefetch: messages held per slot.
        pool: how the worker runs tasks.
    """

    def __init__(self, redis_url: str, folder: Path, *, prefetch: int = 4, pool: str = "prefork") -> None:
        super().__init__(redis_url, folder)
        self._prefetch = prefetch
        self._pool = pool
        database_url = f"sqlite:///{folder / 'celeriac.db'}"
        self._variables = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "CELERIAC_WORKLOADS": WORKLOAD,
            "CELERIAC_DATA_DIR": str(folder),
            "CELERIAC_LOG__LEVEL": "WARNING",
            "CELERIAC_WORKER__PREFETCH_MULTIPLIER": str(prefetch),
        }
        migrated = subprocess.run(
            [script("celeriac"), "migrate"],
            env=environment(PYTHONPATH=str(ROOT), **self._variables),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert migrated.returncode == 0, migrated.stderr
        self._app = create_app(
            Settings(
                redis_url=SecretStr(redis_url),
                database_url=SecretStr(database_url),
                workloads=(WORKLOAD,),
                data_dir=folder,
            )
        )

    def publish(self, index: int, *, task: str = "noop", queue: str = QUEUE, priority: int | None = None) -> None:
        """Publish by `apply_async`."""
        options: dict[str, Any] = {} if priority is None else {"priority": priority}
        self._app.tasks[f"bench.{task}"].apply_async((index,), queue=queue, **options)

    def command(self, queues: Sequence[str], number: int) -> list[str]:
        """`celeriac worker`."""
        options = [f"--concurrency={SLOTS}", f"--pool={self._pool}", f"--hostname=bench{number}@%h"]
        return [script("celeriac"), "worker", *(f"--queue={queue}" for queue in queues), *options]

    def variables(self) -> Mapping[str, str]:
        """The platform's settings."""
        return self._variables

    def recorded(self) -> set[int]:
        """What any key of the broker holds."""
        return messages.recorded(self.redis)

    def close(self) -> None:
        """Close the app."""
        self._app.close()
