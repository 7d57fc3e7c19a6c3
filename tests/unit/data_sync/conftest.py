"""A database of each kind with empty tables, a file store, and the way of a file from upload to result."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import select

from celeriac.database import Base, Database
from celeriac.errors import NotFound
from workloads.data_sync import files, models, sync

TABLES = [table for name, table in Base.metadata.tables.items() if name.startswith("data_sync_")]


class FolderStore:
    """A file store in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: IO[bytes]) -> int:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)
            return file.tell()

    def open(self, key: str) -> IO[bytes]:
        try:
            return (self._folder / key).open("rb")
        except FileNotFoundError:
            raise NotFound("object", key) from None

    def delete(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    def keys(self) -> list[str]:
        return [str(path.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file()]


class Bench:
    """Uploads and syncs files."""

    def __init__(self, database: Database, store: FolderStore) -> None:
        self.database = database
        self.store = store

    def upload(self, content: bytes, platform: str = "generic", keys: list[str] | None = None) -> models.DataFile:
        return files.register(self.database, self.store, "file", platform, keys, io.BytesIO(content))

    def sync(self, file: models.DataFile, task_id: str = "task", **options: Any) -> dict[str, Any]:
        return sync.sync_file(self.database, self.store, file.id, task_id, **options)

    def all(self, model: type[Base]) -> list[dict[str, Any]]:
        table = model.__table__
        with self.database.read() as session:
            return [dict(row) for row in session.execute(select(table).order_by(*table.primary_key)).mappings()]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/test.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    Base.metadata.drop_all(database.engine, tables=TABLES)
    Base.metadata.create_all(database.engine, tables=TABLES)
    yield database
    Base.metadata.drop_all(database.engine, tables=TABLES)
    database.engine.dispose()


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(database, FolderStore(tmp_path / "store"))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make every batch three lines long, and keep it so."""
    from workloads.data_sync import upserts_sqlite
    from workloads.data_sync.upserts_postgresql import PostgresUpserter

    monkeypatch.setattr(upserts_sqlite, "BATCH_ROWS", 3)
    monkeypatch.setattr(upserts_sqlite, "QUICK_SECONDS", 0)
    monkeypatch.setattr(upserts_sqlite, "SLOW_SECONDS", 1000)
    monkeypatch.setattr(PostgresUpserter, "batch_rows", 3)
    return 3
