"""One engine per process, and the two kinds of transaction: `read()` and `write()`."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from celeriac.errors import ConfigurationError

#: How long a SQLite writer waits for another, milliseconds.
SQLITE_BUSY_TIMEOUT_MS = 5_000

#: The execution option of an engine whose transactions write.
WRITES = "celeriac_writes"

#: A server whose machine has died sends no word of it: without these a query waits for a quarter of an hour and more,
#: and holds its connection, while another server has long taken over.
_POSTGRES_TIMEOUTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,  # milliseconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

#: What stands for each scheme in SQLAlchemy's form.
_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


class Database:
    """A connection pool with two kinds of transaction.

    Safe to make before a fork: the pool opens on first use, and a child that uses it after its parent did must call
    `dispose()` first.

    Args:
        url: a SQLAlchemy URL, or a libpq one such as `postgresql://user:password@host/name`.
        pool_size: connections that stay open.

    Raises:
        ConfigurationError: the URL is no database URL, or one of a kind that is not supported.
    """

    def __init__(self, url: str, pool_size: int = 5) -> None:
        self.url = normalise_url(url)
        self.pool_size = pool_size

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded kind."""
        return self.url.startswith("sqlite")

    @cached_property
    def engine(self) -> Engine:
        """The engine, made on first use."""
        if self.is_sqlite:
            engine = create_engine(self.url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        return create_engine(
            self.url,
            pool_size=self.pool_size,
            max_overflow=self.pool_size,
            pool_pre_ping=True,
            connect_args=_POSTGRES_TIMEOUTS,
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: sees one consistent state, blocks nobody."""
        # PostgreSQL would show each statement a state of its own; SQLite's transactions are snapshots anyway.
        engine = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        with Session(engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session for one short writing transaction: commits at the end, rolls back on any exception."""
        with Session(self.writing_engine, expire_on_commit=False) as session, session.begin():
            yield session

    @property
    def writing_engine(self) -> Engine:
        """The engine of `write`, for work that needs one connection for several writing transactions."""
        return self.engine.execution_options(**{WRITES: True})

    def dispose(self) -> None:
        """Forget the connections without closing them: what a forked child does with its parent's."""
        if "engine" in self.__dict__:
            self.engine.dispose(close=False)


def normalise_url(url: str) -> str:
    """Give the SQLAlchemy form of a database URL, with psycopg 3 as PostgreSQL's driver.

    Raises:
        ConfigurationError: it is no database URL, or one of a kind that is not supported. As it may hold a password,
            no part of it is shown but a scheme that is one.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise _refusal("no URL")
    if scheme not in _DRIVERS:
        raise _refusal(f"{scheme}:// is not supported")
    normalised = f"{_DRIVERS[scheme]}://{rest}"
    try:
        make_url(normalised)
    except (ArgumentError, ValueError):
        raise _refusal("cannot be read; its port must be a number, and special characters are written %XX") from None
    return normalised


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"DATABASE_URL: {reason}; use sqlite:////path/to/file.db or postgresql://user:password@host/name"
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401
    # SQLAlchemy begins transactions itself (below); the driver must not begin others.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    # Two that open a new file at the same time collide here, where SQLite does not wait by itself.
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
