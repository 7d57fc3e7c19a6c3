"""What every file store promises, tried on each of them."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import boto3
import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, update

from celeriac.database import Base, Database
from celeriac.database.migrate import Migrations
from celeriac.errors import ConfigurationError, InvalidInput, NotFound, Unavailable
from celeriac.storage import FileStore, open_store
from celeriac.storage.database import ABANDONED_AFTER, DatabaseStore, StoredChunk, StoredFile
from celeriac.storage.objects import ObjectStore
from tests.servers import S3Server, free_port

MIB = 1024 * 1024

Connect = Callable[[], FileStore]


class Zeros(io.RawIOBase):
    """A stream of that many zeros, read in uneven pieces as from a socket; it may break, and calls back."""

    def __init__(self, size: int, fails_at: int | None = None, on_read: Callable[[], None] = lambda: None) -> None:
        self.left = size
        self.until_failure = size + 1 if fails_at is None else fails_at
        self.on_read = on_read

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.on_read()
        count = min(self.left, 700_001 if size < 0 else min(size, 700_001))
        self.left -= count
        self.until_failure -= count
        if self.until_failure <= 0:
            raise OSError("the sender went away")
        return bytes(count)


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


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def content_of(store: FileStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 3, 11 * MIB])
def test_an_object_comes_back_as_it_was(connect: Connect, size: int) -> None:
    content = os.urandom(size)
    assert connect().put("uploads/2026/one.csv", io.BytesIO(content)) == size
    assert content_of(connect(), "uploads/2026/one.csv") == content


def test_an_open_file_can_be_moved_in(store: FileStore) -> None:
    content = os.urandom(9 * MIB)
    store.put("one", io.BytesIO(content))
    with store.open("one") as file:
        assert file.seek(-10, io.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]
        assert file.seek(5 * MIB - 1) == 5 * MIB - 1
        assert file.read(3) == content[5 * MIB - 1 : 5 * MIB + 2]
        assert file.tell() == 5 * MIB + 2
        file.seek(20 * MIB)
        assert file.read() == b""


def test_memory_stays_bounded_however_large_the_object_is(store: FileStore) -> None:
    process = psutil.Process()
    store.put("warm", Zeros(6 * MIB))
    used: list[int] = []
    before = process.memory_info().rss

    def sample() -> None:
        used.append(process.memory_info().rss - before)

    assert store.put("large", Zeros(64 * MIB, on_read=sample)) == 64 * MIB
    with store.open("large") as file:
        while file.read(MIB):
            sample()
    assert max(used) < 40 * MIB


def test_overwriting_shows_the_old_object_until_the_new_one_is_whole(connect: Connect) -> None:
    reader, writer = connect(), connect()
    writer.put("one", io.BytesIO(b"old"))
    seen: set[bytes] = set()
    writer.put("one", Zeros(7 * MIB, on_read=lambda: seen.add(content_of(reader, "one"))))
    assert seen == {b"old"}
    assert content_of(reader, "one") == bytes(7 * MIB)


@pytest.mark.parametrize("fails_at", [1, 12 * MIB])
def test_a_put_that_fails_in_the_middle_leaves_the_old_object(connect: Connect, fails_at: int) -> None:
    store = connect()
    store.put("one", io.BytesIO(b"old"))
    for key in ("one", "two"):
        with pytest.raises(OSError, match="the sender went away"):
            store.put(key, Zeros(20 * MIB, fails_at=fails_at))
    assert content_of(connect(), "one") == b"old"
    with pytest.raises(NotFound):
        connect().open("two")


def test_an_open_file_never_mixes_two_versions(connect: Connect, kind: str) -> None:
    store = connect()
    store.put("one", io.BytesIO(b"a" * 9 * MIB))
    with store.open("one") as file:
        start = file.read(10)
        connect().put("one", io.BytesIO(b"b" * 9 * MIB))
        if kind == "file":
            assert set(start + file.read()) == {ord("a")}
        else:
            with pytest.raises(OSError, match="deleted or replaced while it was being read"):
                file.read()
    assert content_of(store, "one") == b"b" * 9 * MIB


def test_an_object_that_is_deleted_while_it_is_read_says_so(store: FileStore, kind: str) -> None:
    store.put("one", io.BytesIO(bytes(9 * MIB)))
    with store.open("one") as file:
        file.read(10)
        store.delete("one")
        if kind == "file":
            assert len(file.read()) == 9 * MIB - 10
        else:
            with pytest.raises(OSError, match="deleted or replaced while it was being read"):
                file.read()


def test_deleting_twice_is_no_error(store: FileStore) -> None:
    store.put("a/one", io.BytesIO(b"content"))
    store.delete("a/one")
    store.delete("a/one")
    store.delete("a")
    with pytest.raises(NotFound):
        store.open("a/one")


@pytest.mark.parametrize("key", ["none", "none/below", "folder", "folder/one/below"])
def test_a_missing_object_is_not_found(store: FileStore, key: str) -> None:
    store.put("folder/one", io.BytesIO(b"content"))
    with pytest.raises(NotFound, match="no file"):
        store.open(key)
    store.delete(key)
    assert content_of(store, "folder/one") == b"content"


@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "/",
            "/etc/passwd",
            "../up",
            "a/../../up",
            "a/./b",
            "a//b",
            "a/",
            "a b",
            "a\n",
            "ä",
            "a#1",
            "a\\b",
            "a\0b",
        ),
        *("%2e%2e/up", "a" * 201, "/".join(["abcdefg"] * 65)),
    ],
)
def test_a_bad_key_is_refused(store: FileStore, key: str) -> None:
    for attempt in (lambda: store.put(key, io.BytesIO(b"")), lambda: store.open(key), lambda: store.delete(key)):
        with pytest.raises(InvalidInput):
            attempt()


@pytest.mark.parametrize("url", ["file://", "file:///", "file://host/folder", "file:relative", "s3://", "s3:///prefix"])
def test_a_url_without_a_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CELERIAC_FILE_STORE"):
        ObjectStore(url)


@pytest.mark.parametrize("death", ["refuses", "drops", "hangs"])
def test_a_dead_s3_endpoint_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch, death: str) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = free_port() if death == "refuses" else listener.getsockname()[1]
        listener.listen(0 if death == "drops" else 5)
        # The queue of connections is full after these; the kernel drops what comes next.
        waiting = [socket.socket() for _ in range(3 if death == "drops" else 0)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        use_s3(monkeypatch, f"http://127.0.0.1:{port}")
        store = ObjectStore("s3://bucket")
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"s3://bucket is away"):
            store.put("one", io.BytesIO(b"content"))
        assert time.monotonic() - start < 12
        for client in waiting:
            client.close()


def test_a_missing_bucket_is_not_taken_for_a_missing_file(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, s3_server.url)
    store = ObjectStore("s3://no-such-bucket")
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.put("one", io.BytesIO(b"content"))


def test_a_dead_database_is_unavailable() -> None:
    store = DatabaseStore(Database(f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"))
    with pytest.raises(Unavailable, match="db: is away") as caught:
        store.open("one")
    assert "secret" not in str(caught.value)


def test_s3_refuses_to_hang_in_a_child_of_a_process_that_used_it(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(monkeypatch, s3_server.url)
    monkeypatch.setattr(ObjectStore, "_s3_used_in", os.getpid() + 1)
    with pytest.raises(ConfigurationError, match="before this process was forked"):
        ObjectStore("s3://bucket").open("one")


def test_an_object_can_be_copied_from_one_key_to_another(store: FileStore) -> None:
    content = os.urandom(17 * MIB)
    store.put("one", io.BytesIO(content))
    with store.open("one") as file:
        store.put("two", file)
    assert content_of(store, "two") == content


@pytest.mark.parametrize("kind", ["s3"])
def test_a_failed_put_leaves_no_unfinished_upload(store: FileStore) -> None:
    with pytest.raises(OSError, match="went away"):
        store.put("one", Zeros(20 * MIB, fails_at=12 * MIB))
    s3 = boto3.client("s3")
    uploads = [s3.list_multipart_uploads(Bucket=bucket["Name"]) for bucket in s3.list_buckets()["Buckets"]]
    assert not any("Uploads" in answer for answer in uploads)


@pytest.mark.parametrize("kind", ["s3"])
def test_an_endpoint_that_dies_during_a_put_is_unavailable(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as server:
        use_s3(monkeypatch, server.url)
        boto3.client("s3").create_bucket(Bucket="bucket")
        reads: list[int] = []

        def die_after_12_mib() -> None:
            reads.append(1)
            if len(reads) == 12 * MIB // 700_001:
                server.kill()

        with pytest.raises(Unavailable, match="s3://bucket is away"):
            ObjectStore("s3://bucket").put("one", Zeros(60 * MIB, on_read=die_after_12_mib))


@pytest.mark.parametrize("kind", ["file"])
def test_a_failed_put_leaves_no_draft(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="went away"):
        store.put("a/one", Zeros(9 * MIB, fails_at=5 * MIB))
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_replaced_deleted_and_failed_objects_leave_no_chunks(store: FileStore, database: Database) -> None:
    store.put("kept", Zeros(20 * MIB))
    store.put("kept", Zeros(3 * MIB))
    store.put("deleted", Zeros(2 * MIB))
    store.delete("deleted")
    with pytest.raises(OSError, match="went away"):
        store.put("failed", Zeros(9 * MIB, fails_at=5 * MIB))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(StoredChunk)) == 3
        assert session.scalars(select(StoredFile.key)).all() == ["kept"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_chunks_of_a_killed_put_are_removed_a_day_later(
    store: FileStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(DatabaseStore, "_remove", lambda *_: None)
        with pytest.raises(OSError, match="went away"):
            store.put("killed", Zeros(40 * MIB, fails_at=30 * MIB))
    store.put("kept", Zeros(2 * MIB))

    def chunks() -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(StoredChunk)) or 0

    assert chunks() == 31
    with database.write() as session:
        age = ABANDONED_AFTER + timedelta(minutes=1)
        session.execute(update(StoredChunk).values(created_at=session.scalar(select(StoredFile.created_at)) - age))
    store.put("next", io.BytesIO(b"content"))
    assert chunks() == 3
    assert content_of(store, "kept") == bytes(2 * MIB)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_object_is_whole_although_the_answer_to_its_last_commit_was_lost(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = DatabaseStore._point

    def point_and_lose_the_answer(*arguments: object) -> None:
        point(*arguments)
        raise Unavailable("connection lost")

    with monkeypatch.context() as broken:
        broken.setattr(DatabaseStore, "_point", point_and_lose_the_answer)
        with pytest.raises(Unavailable, match="connection lost"):
            store.put("one", io.BytesIO(b"content"))
    assert content_of(store, "one") == b"content"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_put_that_takes_half_a_day_gives_up_before_a_sweep_could_meet_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.storage.database.PUT_TIMEOUT", timedelta(0))
    with pytest.raises(Unavailable, match="took longer"):
        store.put("slow", io.BytesIO(b"content"))
    with pytest.raises(NotFound):
        store.open("slow")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_migration_makes_the_tables_of_the_models(database: Database) -> None:
    own = {"celeriac_file", "celeriac_file_chunk"}

    def only_own(item: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name in own

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": only_own, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
