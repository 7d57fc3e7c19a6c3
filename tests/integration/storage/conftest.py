"""Every kind of file store, empty; a test of some of them alone is parametrized by `kind`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from celeriac.database import Database
from celeriac.database.migrate import Migrations
from celeriac.storage import FileStore, open_store
from tests.servers import S3Server
from tests.storage import Connect, use_s3


@pytest.fixture(params=["file", "sqlite", "postgres", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def database(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path / 'celeriac.db'}"
    Migrations(url, []).upgrade()
    database = Database(url)
    yield database
    database.engine.dispose()


@pytest.fixture
def connect(
    kind: str, database: Database, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Connect:
    """Opens the same store once more, as another process would."""
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        use_s3(monkeypatch, server.url)
        bucket = f"bucket-{uuid4()}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        return lambda: open_store(f"s3://{bucket}/some/prefix", database)
    return lambda: open_store(f"file://{tmp_path / 'files'}" if kind == "file" else "db:", database)


@pytest.fixture
def store(connect: Connect) -> FileStore:
    return connect()
