"""The calls of the routes under `/api/data-sync`, and clients that send them.

with DataSyncClient("http://127.0.0.1:8000", token) as client, open("orders.csv", "rb") as orders:
file = client.upload_file("orders.csv", orders, platform="shopee")
print(client.wait(client.sync_single_file(file.file_id).task_id).result)
"""

from __future__ import annotations

from typing import IO, Final
from urllib.parse import quote

from celeriac.client import AsyncClient, Call, Client, Method
from celeriac.client.call import answer_of
from celeriac.client.calls import given, submit_key
from celeriac.contract.tasks import TaskView
from workloads.data_sync.contract import FilePage, FileStatus, FileView, RejectionPage, RowPage, SyncView

_ROOT: Final = "/api/data-sync"

#: How much longer an upload may take than other requests, seconds.
UPLOAD_SECONDS: Final = 600


def upload_file(name: str, content: IO[bytes], *, platform: str, key_columns: str | None = None) -> Call[FileView]:
    """Register a file: its header is checked, its rows only when it is synced.

    Args:
        name: what it is called.
        content: CSV or XLSX; encoding and delimiter are detected.
        platform: `shopee`, or `generic` for any other header.
        key_columns: columns that identify a row, comma-separated; the platform's own if not given.
    """
    form = given(platform=platform, key_columns=key_columns)
    return Call(
        "POST", f"{_ROOT}/files", answer_of(FileView), form=form, file=(name, content), extra_seconds=UPLOAD_SECONDS
    )


def list_files(
    *,
    platform: str | None = None,
    status: FileStatus | str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[FilePage]:
    """List files with their last sync, the newest first.

    Args:
        platform: only files of this platform.
        status: only files in this state.
        limit: entries per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    asked = given(platform=platform, status=status, limit=limit, cursor=cursor)
    return Call("GET", f"{_ROOT}/files", answer_of(FilePage), params=asked, repeatable=True)


def show_file(file_id: int) -> Call[FileView]:
    """Show a file with its last sync."""
    return Call("GET", f"{_ROOT}/files/{file_id}", answer_of(FileView), repeatable=True)


def list_rejections(file_id: int, *, limit: int | None = None, cursor: str | None = None) -> Call[RejectionPage]:
    """List what the last sync of a file refused: line, column, value and reason.

    Args:
        file_id: the file.
        limit: entries per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    asked = given(limit=limit, cursor=cursor)
    return Call("GET", f"{_ROOT}/files/{file_id}/rejections", answer_of(RejectionPage), params=asked, repeatable=True)


def list_rows(
    *, platform: str, file_id: int | None = None, limit: int | None = None, cursor: str | None = None
) -> Call[RowPage]:
    """List the rows of a platform in the order of their keys.

    Args:
        platform: `shopee` or `generic`.
        file_id: only rows that this file wrote last.
        limit: entries per page, 1,000 at most.
        cursor: the `cursor` of the page before.
    """
    asked = given(platform=platform, file_id=file_id, limit=limit, cursor=cursor)
    return Call("GET", f"{_ROOT}/rows", answer_of(RowPage), params=asked, repeatable=True)


def sync_single_file(
    file_id: int, *, priority: int | None = None, idempotency_key: str | None = None
) -> Call[SyncView]:
    """Sync a file in a task of its own.

    Args:
        file_id: the file.
        priority: 0 to 9, 9 first.
        idempotency_key: a name for this submit; one is made up for each call otherwise.
    """
    body = given(file_id=file_id, priority=priority)
    return _submit("sync-single-file", body, idempotency_key)


def sync_batch(
    *,
    platform: str | None = None,
    limit: int | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
) -> Call[SyncView]:
    """Sync files that have not been synced, the oldest first, each in a task; this one shows overall progress.

    Args:
        platform: only files of this platform.
        limit: how many files at most.
        priority: 0 to 9, 9 first.
        idempotency_key: a name for this submit; one is made up for each call otherwise.
    """
    return _submit("sync-batch", given(platform=platform, limit=limit, priority=priority), idempotency_key)


def task_status(task_id: str) -> Call[TaskView]:
    """Show a task's state, progress and result; the same as `show_task`."""
    return Call("GET", f"{_ROOT}/task-status/{quote(task_id, safe='')}", answer_of(TaskView), repeatable=True)


def cancel_sync(task_id: str) -> Call[TaskView]:
    """Cancel a sync: what it has committed stays, no batch is left half-written."""
    return Call("DELETE", f"{_ROOT}/cancel-task/{quote(task_id, safe='')}", answer_of(TaskView), repeatable=True)


class Operations:
    """The operations of the workload, each a method."""

    upload_file = Method(upload_file)
    list_files = Method(list_files)
    show_file = Method(show_file)
    list_rejections = Method(list_rejections)
    list_rows = Method(list_rows)
    sync_single_file = Method(sync_single_file)
    sync_batch = Method(sync_batch)
    task_status = Method(task_status)
    cancel_sync = Method(cancel_sync)


class DataSyncClient(Operations, Client):
    """A client for ordinary code."""


class AsyncDataSyncClient(Operations, AsyncClient):
    """A client for asyncio."""


def _submit(what: str, body: dict[str, object], idempotency_key: str | None) -> Call[SyncView]:
    headers = submit_key(idempotency_key)
    return Call("POST", f"{_ROOT}/{what}", answer_of(SyncView), body=body, headers=headers, repeatable=True)
