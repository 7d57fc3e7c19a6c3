"""The servers that tests need. One that is missing fails the test in CI and skips it, with the reason, elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn, TypeVar

import hypothesis
import pytest
import redis
from celery import _state as celery_state
from celery import signals

from celeriac import CeleriacApp, create_app
from celeriac.broker.leases import POLICY, DeathPolicy
from celeriac.settings import Settings
from tests.binaries import ServerMissing
from tests.servers import PostgresServer, RedisServer, S3Server, Server

S = TypeVar("S", bound=Server)

# How long an example takes is a matter of what else the machine does; that each test ends is pytest-timeout's.
hypothesis.settings.register_profile("celeriac", deadline=None)
hypothesis.settings.load_profile("celeriac")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what is marked so."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the session; tests take `postgres_url`."""
    with ExitStack() as stack:
        yield _start(PostgresServer, stack)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of its own for each test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the session; tests that stop or kill it start a `RedisServer` of their own."""
    with ExitStack() as stack:
        yield _start(RedisServer, stack)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The session's Redis, emptied before each test."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 endpoint for the session, without buckets."""
    with ExitStack() as stack:
        yield _start(S3Server, stack)


@pytest.fixture(autouse=True)
def own_death_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes what an app, of a test or made where one is imported, has set for the whole process."""
    policy = DeathPolicy()
    monkeypatch.setattr(POLICY, "limits", policy.limits)
    monkeypatch.setattr(POLICY, "listener", policy.listener)


@pytest.fixture
def make_app() -> Iterator[Callable[..., CeleriacApp]]:
    """Makes an app of some settings; what Celery keeps of it for the whole process is undone afterwards."""
    default, current = celery_state.default_app, celery_state._tls.current_app
    receivers = list(signals.worker_process_init.receivers)
    apps: list[CeleriacApp] = []

    def make(**settings: object) -> CeleriacApp:
        apps.append(create_app(Settings.model_validate(settings)))
        return apps[-1]

    yield make
    for app in apps:
        app.close()
        app.database.engine.dispose()
        app.redis.close()
    celery_state.default_app, celery_state._tls.current_app = default, current
    signals.worker_process_init.receivers = receivers


def _start(kind: type[S], stack: ExitStack) -> S:
    try:
        server = kind()
        stack.enter_context(server)
    except ServerMissing as error:
        _give_up(str(error))
    return server


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
