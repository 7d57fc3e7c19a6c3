"""What every file store promises, tried on each kind."""

from __future__ import annotations

import io
import os
from pathlib import Path

import psutil
import pytest

from celeriac.database import Database
from celeriac.errors import ConfigurationError, InvalidInput, NotFound
from celeriac.storage import FileStore, open_store
from tests.storage import MIB, Connect, Zeros, content_of


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


def test_an_object_can_be_copied_from_one_key_to_another(store: FileStore) -> None:
    content = os.urandom(17 * MIB)
    store.put("one", io.BytesIO(content))
    with store.open("one") as file:
        store.put("two", file)
    assert content_of(store, "two") == content


@pytest.mark.parametrize(
    "url",
    ["file://", "file:///", "file://host/folder", "file:relative", "s3://", "s3:///prefix", "ftp://host/folder", ""],
)
def test_a_url_without_a_place_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"CELERIAC_FILE_STORE: .*; use "):
        open_store(url, Database(f"sqlite:///{tmp_path}/unused.db"))
