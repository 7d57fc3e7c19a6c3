"""The database: both kinds of transaction, moments, and URLs, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, func, insert, literal, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from celeriac.database import Database, UtcDateTime
from celeriac.database.engine import normalise_url
from celeriac.errors import ConfigurationError

MOMENTS = Table("moment", MetaData(), Column("at", UtcDateTime, primary_key=True))
NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'celeriac.db'}")
    MOMENTS.create(database.engine)
    yield database
    database.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    database = Database(request.getfixturevalue("postgres_url"))
    MOMENTS.create(database.engine)
    yield database
    database.engine.dispose()


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(MOMENTS)) or 0


def test_what_is_written_is_there_when_the_block_ends(database: Database):
    with database.write() as session:
        session.execute(insert(MOMENTS).values(at=NOON))
    assert count(database) == 1


def test_an_error_undoes_the_whole_block(database: Database):
    def write_and_fail() -> None:
        with database.write() as session:
            session.execute(insert(MOMENTS).values(at=NOON))
            raise RuntimeError("in the middle")

    def write_twice() -> None:
        with database.write() as session:
            session.execute(insert(MOMENTS).values(at=NOON))
            session.execute(insert(MOMENTS).values(at=NOON))

    with pytest.raises(RuntimeError, match="in the middle"):
        write_and_fail()
    with pytest.raises(IntegrityError):
        write_twice()
    assert count(database) == 0


def test_a_reader_sees_one_state_and_neither_waits_for_a_writer_nor_holds_one_up(database: Database):
    with database.read() as reading:
        assert reading.scalar(select(func.count()).select_from(MOMENTS)) == 0
        with database.write() as session:
            session.execute(insert(MOMENTS).values(at=NOON))
            assert count(database) == 0, "nobody sees what is not committed"
        assert reading.scalar(select(func.count()).select_from(MOMENTS)) == 0, "the state has not changed under it"
    assert count(database) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_a_postgresql_whose_machine_has_died_is_given_up_within_seconds(postgres_url: str):
    database = Database(postgres_url)
    with database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        with socket.socket(fileno=os.dup(raw.fileno())) as used:
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    database.engine.dispose()


def test_writers_on_sqlite_queue_up_and_none_fails(sqlite: Database):
    writers, each = 8, 25
    started = threading.Barrier(writers)

    def write(_number: int) -> None:
        started.wait()
        for _ in range(each):
            with sqlite.write() as session:
                # To read first and write then is what fails without the lock from the start.
                before = session.scalar(select(func.count()).select_from(MOMENTS)) or 0
                session.execute(insert(MOMENTS).values(at=NOON + timedelta(seconds=before)))

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    assert count(sqlite) == writers * each


def test_a_writer_on_sqlite_waits_for_the_one_before_it(sqlite: Database):
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with sqlite.write() as session:
            session.execute(insert(MOMENTS).values(at=NOON))
            order.append("second")

    with sqlite.write() as session:
        session.execute(insert(MOMENTS).values(at=NOON + timedelta(days=1)))
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert count(sqlite) == 2


def write_at_once(url: str, barrier: threading.Barrier) -> None:
    database = Database(url)
    barrier.wait()
    with database.write() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS note (text TEXT)"))
        session.execute(text("INSERT INTO note VALUES ('hello')"))


def test_processes_may_open_a_new_sqlite_file_at_the_same_time(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        barrier = context.Barrier(8)
        processes = [context.Process(target=write_at_once, args=(url, barrier)) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 8


def test_a_moment_without_a_zone_is_refused(database: Database):
    with pytest.raises(StatementError, match="a moment needs a time zone"), database.write() as session:
        session.execute(insert(MOMENTS).values(at=datetime(2026, 1, 31, 12, 0)))  # noqa: DTZ001 - on purpose


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - Hypothesis wants bounds without one
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_moment_comes_back_in_utc(database: Database, at: datetime, zone: timezone):
    moment = at.replace(tzinfo=zone)
    with database.write() as session:
        session.execute(MOMENTS.delete())
        session.execute(insert(MOMENTS).values(at=moment))
    with database.read() as session:
        found = session.scalars(select(MOMENTS.c.at).where(MOMENTS.c.at == literal(moment, UtcDateTime))).one()
    assert found == moment
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("sqlite:////var/lib/celeriac.db", "sqlite:////var/lib/celeriac.db"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p%40x@h:5433/d?sslmode=require", "postgresql+psycopg://u:p%40x@h:5433/d?sslmode=require"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_the_urls_that_others_write_are_understood(given: str, normalised: str):
    assert normalise_url(given) == normalised


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "no URL"),
        ("celeriac.db", "no URL"),
        ("postgresql:/user:hunter2@host/name", "no URL"),
        ("user:hunter2@host://name", "no URL"),
        ("mysql://user:hunter2@host/name", "mysql:// is not supported"),
        ("postgresql+psycopg2://user:hunter2@host/name", "postgresql+psycopg2:// is not supported"),
        ("postgresql://user:hunter2@host:port/name", "cannot be read; its port must be a number"),
    ],
)
def test_another_url_is_refused_without_showing_its_password(url: str, reason: str):
    with pytest.raises(ConfigurationError) as caught:
        Database(url)
    assert f"DATABASE_URL: {reason}" in str(caught.value)
    assert "use sqlite:////path/to/file.db or postgresql://user:password@host/name" in str(caught.value)
    assert "hunter2" not in str(caught.value)
