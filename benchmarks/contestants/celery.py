"""Stock Celery on `redis://`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import messages
from benchmarks.contestants.contestant import QUEUE, SLOTS, Contestant, script
from benchmarks.contestants.workers import celery_app

#: What Celeriac promises and does by default, as far as stock Celery's settings can say it.
GUARDED: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_soft_time_limit": 300,
    "task_time_limit": 360,
    "worker_max_tasks_per_child": 1000,
    "result_expires": 3600,
    # Only where results are stored; then Celeriac stores STARTED, too.
    "task_track_started": True,
}


class Celery(Contestant):
    """Stock Celery.

    Args:
        redis_url: an empty Redis.
        folder: an empty folder.
        prefetch: messages held per slot.
        settings: Celery's settings; by default `GUARDED`.
        transport: further `broker_transport_options`.
    """

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        *,
        prefetch: int = 4,
        settings: Mapping[str, Any] | None = None,
        transport: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(redis_url, folder)
        self._settings = {
            **(GUARDED if settings is None else settings),
            "worker_prefetch_multiplier": prefetch,
            "broker_transport_options": dict(transport or {}),
        }
        self._app = celery_app.make_app(redis_url, self._settings)

    def publish(self, index: int, *, task: str = "noop", queue: str = QUEUE, priority: int | None = None) -> None:
        """Publish by `apply_async`; kombu's Redis transport serves 0 first, so the priority is turned."""
        options: dict[str, Any] = {} if priority is None else {"priority": 9 - priority}
        self._app.tasks[f"bench.{task}"].apply_async((index,), queue=queue, **options)

    def command(self, queues: Sequence[str], number: int) -> list[str]:
        """`celery worker` with the options that Celeriac uses."""
        options = [f"--concurrency={SLOTS}", "--pool=prefork", "--optimization=fair", "--loglevel=WARNING"]
        options += ["--without-gossip", "--without-mingle", f"--hostname=bench{number}@%h"]
        return [script("celery"), "-A", celery_app.__name__, "worker", f"--queues={','.join(queues)}", *options]

    def variables(self) -> Mapping[str, str]:
        """What `celery_app` reads."""
        return {celery_app.URL: self.redis_url, celery_app.SETTINGS: json.dumps(self._settings)}

    def recorded(self) -> set[int]:
        """What lists and `unacked` hold."""
        return messages.recorded(self.redis)

    def close(self) -> None:
        """Close the app."""
        self._app.close()
