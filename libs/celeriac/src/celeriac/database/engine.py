"""One engine per process, and the two kinds of transaction: `read()` and `write()`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session

from celeriac.errors import ConfigurationError

#: How long a SQLite writer waits for another, milliseconds.
SQLITE_BUSY_TIMEOUT_MS = 5_000

_WRITES = "celeriac_writes"


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
            connect_args={"connect_timeout": 5},
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: sees one consistent state, blocks nobody."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session for one short writing transaction: commits at the end, rolls back on any exception."""
        engine = self.engine.execution_options(**{_WRITES: True})
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Forget the connections without closing them: what a forked child does with its parent's."""
        if "engine" in self.__dict__:
            self.engine.dispose(close=False)


def normalise_url(url: str) -> str:
    """Give the SQLAlchemy form of a database URL, with psycopg 3 as PostgreSQL's driver."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        msg = f"DATABASE_URL: {url!r} is no URL; use sqlite:////path/to/file.db or postgresql://user:password@host/name"
        raise ConfigurationError(msg)
    if scheme in {"postgres", "postgresql", "postgresql+psycopg"}:
        return f"postgresql+psycopg://{rest}"
    if scheme == "sqlite":
        return url
    msg = f"DATABASE_URL: {scheme} is not supported; use sqlite:// or postgresql://"
    raise ConfigurationError(msg)


def redacted(url: str) -> str:
    """The URL without its password, for logs."""
    return make_url(url).render_as_string(hide_password=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401
    # SQLAlchemy begins transactions itself (below); the driver must not begin others.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
