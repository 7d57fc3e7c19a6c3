from __future__ import annotations

import hashlib
import io

import pytest

from celeriac.errors import InvalidInput, NotFound
from workloads.data_sync import files
from workloads.data_sync.contract import FileStatus

CONTENT = b"id,v\n1,a\n2,b\n3,c\n4\n5\n"


class Pipe(io.RawIOBase):
    """A stream that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._content.readinto(buffer)


def test_a_registered_file_is_measured_and_stored_whole(bench):
    file = bench.upload(CONTENT, keys=["id"])
    described = files.describe(files.get(bench.database, file.id))
    assert described["size"] == len(CONTENT)
    assert described["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert described["status"] == "registered"
    assert described["key_columns"] == ["id"]
    assert file.lines == 6
    with bench.store.open(file.storage_key) as stored:
        assert stored.read() == CONTENT


def test_a_stream_that_cannot_go_back_is_registered_too(bench):
    file = files.register(bench.database, bench.store, "pipe", "generic", None, Pipe(CONTENT))
    assert file.size == len(CONTENT)


@pytest.mark.parametrize(
    ("content", "platform", "keys"), [(b"", "generic", None), (CONTENT, "amazon", None), (CONTENT, "generic", ["no"])]
)
def test_what_is_refused_is_not_stored(bench, content, platform, keys):
    with pytest.raises(InvalidInput):
        bench.upload(content, platform, keys)
    assert bench.store.keys() == []


def test_an_object_whose_row_cannot_be_written_is_removed(bench, monkeypatch):
    def fail():
        raise RuntimeError

    monkeypatch.setattr(bench.database, "write", fail)
    with pytest.raises(RuntimeError):
        bench.upload(CONTENT)
    assert bench.store.keys() == []


def test_files_are_listed_by_page_platform_and_status(bench):
    ids = [bench.upload(CONTENT).id for _ in range(3)]
    order = bench.upload(b"order_sn\nX\n", "shopee")
    bench.sync(order)
    database = bench.database
    assert [file.id for file in files.list_files(database, limit=2)] == [order.id, ids[2]]
    assert [file.id for file in files.list_files(database, limit=2, after_id=ids[2])] == [ids[1], ids[0]]
    assert [file.id for file in files.list_files(database, platform="shopee")] == [order.id]
    assert [file.id for file in files.list_files(database, status=FileStatus.SYNCED)] == [order.id]
    assert [file.id for file in files.unsynced(database)] == ids
    assert files.unsynced(database, platform="shopee") == []
    with pytest.raises(NotFound):
        files.get(database, order.id + 1)


def test_rows_and_rejections_are_paged_to_their_end(bench):
    file = bench.upload(CONTENT, keys=["id"])
    bench.sync(file)
    first = files.rows(bench.database, "generic", file.id, 2)
    rest = files.rows(bench.database, "generic", file.id, 2, first[-1]["cursor"])
    assert [row["data"]["v"] for row in first + rest] == ["a", "b", "c"]
    assert isinstance(first[0]["created_at"], str)
    refused = files.rejections(bench.database, file.id, 1)
    assert [row["line"] for row in refused] == [5]
    assert [row["line"] for row in files.rejections(bench.database, file.id, 10, 5)] == [6]
    with pytest.raises(InvalidInput):
        files.rows(bench.database, "generic", cursor=["one"])
    with pytest.raises(InvalidInput):
        files.rows(bench.database, "amazon")
