"""Keepers, and outages of the Redis that they keep."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from celeriac.broker import Endpoint, Keys
from celeriac.broker.keeper import Keeper
from celeriac.broker.table import LeaseTable
from tests.servers import RedisServer

KEYS = Keys()

StartKeeper = Callable[..., Keeper]


@pytest.fixture
def start_keeper(redis_url: str) -> Iterator[StartKeeper]:
    """Starts a keeper, of the session's Redis if no other is named; all are stopped at the end."""
    keepers: list[Keeper] = []

    def start(table: LeaseTable | None = None, *, url: str = redis_url, expired: list[str] | None = None) -> Keeper:
        on_expired = [].append if expired is None else expired.append
        keepers.append(Keeper(Endpoint.parse(url), KEYS, table, on_expired))
        keepers[-1].start()
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.stop()
    for keeper in keepers:
        keeper.join(10)
        assert not keeper.is_alive()


def interrupt(server: RedisServer, outage: str) -> Callable[[], None]:
    """Begin an outage; gives what ends it."""
    if outage == "killed":
        server.kill()
        return server.start
    if server._container is not None:
        container = server._container.get_wrapped_container()
        container.pause()
        return container.unpause
    process = server._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    return lambda: os.kill(process.pid, signal.SIGCONT)
