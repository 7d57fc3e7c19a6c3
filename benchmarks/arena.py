"""One Redis that contestants use in turn, each from an empty state."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from benchmarks.contestants.contestant import Contestant
from tests.servers import RedisServer

#: Makes a contestant of a Redis URL and an empty folder.
Maker = Callable[[str, Path], Contestant]


class Arena:
    """A Redis server as production runs it: appended to a file that is synced every second."""

    def __init__(self) -> None:
        self._server = RedisServer()
        self._folder = tempfile.TemporaryDirectory(prefix="celeriac-bench-")
        self._runs = 0

    def __enter__(self) -> Self:
        self._server.__enter__()
        self.redis = redis.Redis.from_url(self._server.url)
        self.redis.config_set("appendfsync", "everysec")
        # A rewrite of the file in the middle of a run would fall on one contestant alone.
        self.redis.config_set("auto-aof-rewrite-percentage", 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.redis.close()
        self._server.__exit__(kind, error, trace)
        self._folder.cleanup()

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self.redis.info("server")["redis_version"])

    @contextmanager
    def run(self, make: Maker) -> Iterator[Contestant]:
        """Let one contestant run on an empty Redis; its processes have ended when this returns.

        Args:
            make: makes the contestant.
        """
        self.redis.flushall()
        self._runs += 1
        folder = Path(self._folder.name, str(self._runs))
        folder.mkdir()
        with make(self._server.url, folder) as contestant:
            yield contestant
