from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from celeriac.errors import InvalidInput, NotFound
from workloads.data_sync import files, sync
from workloads.data_sync.contract import FileStatus
from workloads.data_sync.models import DataFile, GenericRow, RejectedRow, SyncRun
from workloads.data_sync.runs import Run, Superseded, mark_cancelled

CONTENT = b"id,v\n" + b"".join(b"%d,v%d\n" % (n % 10, n) for n in range(14)) + b'x,"open\n1e400,z\nlast,row\n'


class CrashError(Exception):
    pass


def crash_after(commits: int):
    calls = 0

    def on_progress(_current, _total):
        nonlocal calls
        calls += 1
        if calls > commits:
            raise CrashError

    return on_progress


def strip(rows):
    return [{name: value for name, value in row.items() if name not in {"created_at", "updated_at"}} for row in rows]


def test_the_result_and_the_file_tell_the_same(bench):
    file = bench.upload(CONTENT, keys=["id"])
    result = bench.sync(file, "task")
    assert (result["rows"], result["inserted"], result["rejected"]) == (17, 11, 6)
    assert [each["line"] for each in result["errors"]] == [12, 13, 14, 15, 16, 17]
    described = files.describe(files.get(bench.database, file.id))
    assert described["status"] == "synced"
    assert described["last_task_id"] == "task"
    assert {name: described[name] for name in ("rows", "inserted", "rejected")} == {
        name: result[name] for name in ("rows", "inserted", "rejected")
    }


@pytest.mark.parametrize(("commits", "position"), list(enumerate([0, 4, 7, 10, 13, 18])))
def test_a_sync_that_crashed_goes_on_after_its_last_commit(bench, small_batches, commits, position):
    reference = bench.upload(CONTENT.replace(b"id,v", b"id,w"), keys=["id"])
    expected = bench.sync(reference, "reference")
    file = bench.upload(CONTENT, keys=["id"])
    with pytest.raises(CrashError):
        bench.sync(file, "task", on_progress=crash_after(commits))
    seen = []
    result = bench.sync(file, "task", on_progress=lambda current, _total: seen.append(current))
    assert {**result, "file_id": 0} == {**expected, "file_id": 0}
    assert seen[0] == position
    assert seen == sorted(seen)


@pytest.mark.parametrize("batch", range(5))
def test_a_commit_that_fails_leaves_nothing_of_its_batch(bench, small_batches, monkeypatch, batch):
    file = bench.upload(CONTENT, keys=["id"])
    save, calls = Run.save, []

    def failing(self, connection, progress):
        save(self, connection, progress)
        calls.append(progress)
        if len(calls) == batch + 1:
            raise CrashError

    monkeypatch.setattr(Run, "save", failing)
    with pytest.raises(CrashError):
        bench.sync(file, "task")
    run = bench.all(SyncRun)[0]
    assert run["rows"] == 3 * batch
    assert len(bench.all(GenericRow)) + len(bench.all(RejectedRow)) == 3 * batch
    assert files.get(bench.database, file.id).status is FileStatus.FAILED
    result = bench.sync(file, "task")
    assert (result["rows"], result["inserted"], result["rejected"]) == (17, 11, 6)


def test_an_execution_that_was_taken_over_commits_nothing_more(bench, small_batches):
    file = bench.upload(CONTENT, keys=["id"])

    def take_over(current, _total):
        if current == 4:
            Run("task", file.id).start(bench.database)

    with pytest.raises(Superseded):
        bench.sync(file, "task", on_progress=take_over)
    assert bench.all(SyncRun)[0]["position"] == 4
    assert files.get(bench.database, file.id).status is FileStatus.SYNCING
    assert bench.sync(file, "task")["rows"] == 17


def test_a_finished_task_delivered_again_only_repeats_its_result(bench):
    file = bench.upload(CONTENT, keys=["id"])
    assert bench.sync(file, "task") == bench.sync(file, "task")


def test_a_task_cannot_go_on_with_another_file(bench):
    bench.sync(bench.upload(CONTENT), "task")
    with pytest.raises(InvalidInput, match="start another task"):
        bench.sync(bench.upload(CONTENT), "task")


def test_a_file_that_does_not_exist_is_not_found(bench):
    with pytest.raises(NotFound):
        sync.sync_file(bench.database, bench.store, 12345, "task")


def test_a_passing_error_is_tried_again(bench, monkeypatch):
    file = bench.upload(CONTENT, keys=["id"])
    save, left = Run.save, [OperationalError("", {}, Exception("database is locked")) for _ in range(2)]

    def locked(self, connection, progress):
        if left:
            raise left.pop()
        save(self, connection, progress)

    monkeypatch.setattr(Run, "save", locked)
    monkeypatch.setattr(sync.time, "sleep", lambda _seconds: None)
    assert bench.sync(file)["rows"] == 17


def test_concurrent_syncs_of_one_file_agree(bench, small_batches):
    file = bench.upload(CONTENT, keys=["id"])
    results = {}
    threads = [
        threading.Thread(target=lambda name=name: results.update({name: bench.sync(file, name)})) for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(result["rows"], result["rejected"]) for result in results.values()} == {(17, 6)}
    assert sum(result["inserted"] for result in results.values()) == 11
    assert len(bench.all(GenericRow)) == 11
    assert len(bench.all(RejectedRow)) == 6


def test_no_thread_is_left_after_an_error(bench, small_batches):
    file = bench.upload(CONTENT * 50, keys=["id"])
    with pytest.raises(CrashError):
        bench.sync(file, on_progress=crash_after(1))
    assert not [thread for thread in threading.enumerate() if thread.name == "data-sync-reader"]


def test_a_failure_is_shown_and_a_cancellation_overrides_it(bench):
    file = bench.upload(CONTENT)
    bench.store.delete(file.storage_key)
    with pytest.raises(NotFound):
        bench.sync(file, "task")
    failed = files.get(bench.database, file.id)
    assert failed.status is FileStatus.FAILED
    assert "no object" in failed.error
    mark_cancelled(bench.database, file.id, "another")
    assert files.get(bench.database, file.id).status is FileStatus.FAILED
    mark_cancelled(bench.database, file.id, "task")
    assert files.get(bench.database, file.id).status is FileStatus.CANCELLED


def test_rejections_of_an_earlier_sync_are_replaced(bench):
    file = bench.upload(CONTENT)
    bench.sync(file, "first")
    with bench.database.write() as session:
        session.add(RejectedRow(file_id=file.id, line=999, column=None, value="", reason="old"))
    bench.sync(file, "second")
    assert 999 not in {row["line"] for row in bench.all(RejectedRow)}


CELLS = st.text(alphabet='ab1,"\n\0é\\\t', max_size=4).map(lambda text: text.encode())
LINES = st.lists(st.one_of(CELLS, st.tuples(CELLS, CELLS).map(b",".join), st.just(b"\xff,1"), st.just(b"1e400,1")))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_every_record_is_accepted_or_rejected_and_a_second_sync_changes_nothing(bench, small_batches, lines):
    with bench.database.write() as session:
        session.execute(GenericRow.__table__.delete())
        session.execute(SyncRun.__table__.delete())
    content = b"id,v\n" + b"\n".join(lines) + b"\n"
    file = bench.upload(content, keys=["id"])
    first = bench.sync(file, "first")
    rows, rejected = strip(bench.all(GenericRow)), bench.all(RejectedRow)
    of_file = [row["line"] for row in rejected if row["file_id"] == file.id]
    assert first["rows"] == len(rows) + len(of_file)
    assert not {row["line"] for row in rows} & set(of_file)
    second = bench.sync(file, "second")
    assert (second["inserted"], second["updated"]) == (0, 0)
    assert (second["rows"], second["rejected"]) == (first["rows"], first["rejected"])
    assert strip(bench.all(GenericRow)) == rows


def test_a_newer_task_keeps_the_status_from_an_older_one(bench):
    file = bench.upload(CONTENT)
    with bench.database.write() as session:
        session.execute(update(DataFile).values(last_task_id="newer", status=FileStatus.SYNCING))
    mark_cancelled(bench.database, file.id, "older")
    assert files.get(bench.database, file.id).status is FileStatus.SYNCING
