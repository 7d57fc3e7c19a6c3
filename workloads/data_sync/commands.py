"""`celeriac data-sync`: upload files, sync them and look at what became of them, through the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from celeriac.commands.api import PAGE, PATIENCE_SECONDS, first, show, show_list
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.settings import load_settings
from workloads.data_sync import calls
from workloads.data_sync.calls import DataSyncClient
from workloads.data_sync.contract import FileStatus, SyncView

data_sync = typer.Typer(help="Upload files and sync them.", no_args_is_help=True, add_completion=False)

FileId = Annotated[int, typer.Argument(help="What `upload` shows as `file_id`.")]
TaskId = Annotated[str, typer.Argument(help="What `sync` shows as `task_id`.")]
Limit = Annotated[int | None, typer.Option(min=1, help="How many at most; default: all.")]
Priority = Annotated[int | None, typer.Option(help="0 to 9, 9 first; 5 if not given.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="A name for this submit: repeated, it is no other.")]
Wait = Annotated[float, typer.Option(help="Wait so many seconds for the end and show the task.")]

_FILE_COLUMNS = ("file_id", "name", "platform", "status", "rows", "rejected", "created_at", "synced_at")


def _client(data_dir: Path | None) -> DataSyncClient:
    return DataSyncClient.from_settings(load_settings(data_dir), patience_seconds=PATIENCE_SECONDS)


@data_sync.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV or XLSX file.")],
    platform: Annotated[str, typer.Option(help="shopee, or generic for any other header.")],
    key_columns: Annotated[
        str | None, typer.Option(help="Columns that identify a row, comma-separated; default: the platform's own.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Register a file: its header is checked, its rows only when it is synced."""
    with _client(data_dir) as client, file.open("rb") as content:
        registered = client.upload_file(file.name, content, platform=platform, key_columns=key_columns)
    show(registered, as_json=as_json)


@data_sync.command("files")
def list_files(
    platform: Annotated[str | None, typer.Option(help="Only files of this platform.")] = None,
    status: Annotated[FileStatus | None, typer.Option(help="Only files in this state.")] = None,
    limit: Limit = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List files with their last sync, the newest first."""
    asked = calls.list_files(platform=platform, status=status, limit=min(limit or PAGE, PAGE))
    with _client(data_dir) as client:
        show_list(_FILE_COLUMNS, first(client.each(asked), limit), as_json=as_json)


@data_sync.command("file")
def show_file(file_id: FileId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a file with its last sync."""
    with _client(data_dir) as client:
        show(client.show_file(file_id), as_json=as_json)


@data_sync.command()
def rejections(file_id: FileId, limit: Limit = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List what the last sync of a file refused, in the order of the file."""
    asked = calls.list_rejections(file_id, limit=min(limit or PAGE, PAGE))
    with _client(data_dir) as client:
        show_list(("line", "column", "value", "reason"), first(client.each(asked), limit), as_json=as_json)


@data_sync.command()
def rows(
    platform: Annotated[str, typer.Option(help="shopee or generic.")],
    file_id: Annotated[int | None, typer.Option(help="Only rows that this file wrote last.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the rows of a platform in the order of their keys."""
    asked = calls.list_rows(platform=platform, file_id=file_id, limit=min(limit, PAGE))
    with _client(data_dir) as client:
        found = first(client.each(asked), limit)
    if as_json:
        print_json(found)
    else:
        columns = list(dict.fromkeys(name for row in found for name in row))
        print_table(columns, [[row.get(column) for column in columns] for row in found])


@data_sync.command()
def sync(
    file_id: FileId,
    priority: Priority = None,
    idempotency_key: Key = None,
    wait: Wait = 0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Sync a file in a task of its own."""
    with _client(data_dir) as client:
        submitted = client.sync_single_file(file_id, priority=priority, idempotency_key=idempotency_key)
        _show_sync(client, submitted, wait, as_json=as_json)


@data_sync.command("sync-batch")
def sync_batch(
    platform: Annotated[str | None, typer.Option(help="Only files of this platform.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="How many files at most; default: 100.")] = None,
    priority: Priority = None,
    idempotency_key: Key = None,
    wait: Wait = 0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Sync files that have not been synced, the oldest first, each in a task of its own."""
    with _client(data_dir) as client:
        submitted = client.sync_batch(
            platform=platform, limit=limit, priority=priority, idempotency_key=idempotency_key
        )
        _show_sync(client, submitted, wait, as_json=as_json)


@data_sync.command()
def status(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the state, progress and result of a sync."""
    with _client(data_dir) as client:
        show(client.task_status(task_id), as_json=as_json)


@data_sync.command()
def cancel(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Cancel a sync: what it has committed stays, no batch is left half-written."""
    with _client(data_dir) as client:
        show(client.cancel_sync(task_id), as_json=as_json)


def _show_sync(client: DataSyncClient, submitted: SyncView, wait: float, *, as_json: bool) -> None:
    show(client.wait(submitted.task_id, timeout_seconds=wait) if wait else submitted, as_json=as_json)
