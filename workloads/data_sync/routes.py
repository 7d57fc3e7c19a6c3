"""The HTTP routes under `/api/data-sync`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Header, Path, Query, Request, Response, UploadFile

from celeriac import CeleriacApp, InvalidInput, NotFound
from celeriac.contract.headers import IDEMPOTENCY_KEY, LOCATION
from celeriac.contract.numbers import MAX_ID
from celeriac.contract.problem import fails
from celeriac.errors import Conflict, TooMany
from celeriac.publishing import SubmitView, TaskRequest, accepted, cancel, submit
from celeriac.results import TaskRecord, TaskView, view
from workloads.data_sync import files
from workloads.data_sync.contract import (
    ROW_CURSOR,
    FilePage,
    FileStatus,
    FileView,
    Platform,
    RejectionPage,
    RejectionView,
    RowPage,
    SyncBatch,
    SyncSingleFile,
    SyncView,
)
from workloads.data_sync.platforms import check_platform
from workloads.data_sync.runs import mark_cancelled, mark_queued

router = APIRouter(prefix="/api/data-sync", tags=["data synchronisation"])

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries per page.")]
Cursor = Annotated[int | None, Query(ge=1, le=MAX_ID, description="The `cursor` of the page before.")]
RowCursor = Annotated[
    str | None,
    Query(max_length=220, json_schema_extra={"pattern": ROW_CURSOR}, description="The `cursor` of the page before."),
]
FileId = Annotated[int, Path(ge=1, le=MAX_ID, description="What the upload answered.")]
IdempotencyKey = Annotated[str | None, Header(**IDEMPOTENCY_KEY)]
TaskId = Annotated[str, Path(max_length=200, description="What the submit answered as `celery_task_id`.")]


@router.post("/files", status_code=201, responses={201: {"headers": LOCATION}})
async def upload_file(
    request: Request,
    response: Response,
    file: Annotated[UploadFile, File(description="CSV or XLSX; encoding and delimiter are detected.")],
    platform: Annotated[Platform, Form(description="`shopee`, or `generic` for any other header.")],
    key_columns: Annotated[
        str | None,
        Form(
            max_length=10_000,
            description="Columns that identify a row, comma-separated; the platform's own if not given.",
        ),
    ] = None,
) -> FileView:
    """Register a file: its header is checked, its rows only when it is synced."""
    app = _app(request)
    keys = [name.strip() for name in (key_columns or "").split(",") if name.strip()]
    registered = await asyncio.to_thread(
        files.register, app.database, app.files, file.filename or "unnamed", platform, keys or None, file.file
    )
    response.headers["Location"] = f"{router.prefix}/files/{registered.id}"
    return FileView(**files.describe(registered))


@router.get("/files")
async def list_files(
    request: Request,
    platform: Annotated[Platform | None, Query(description="Only files of this platform.")] = None,
    status: Annotated[FileStatus | None, Query(description="Only files in this state.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> FilePage:
    """List files with their last sync, the newest first."""
    if platform is not None:
        check_platform(platform)
    found = await asyncio.to_thread(files.list_files, _app(request).database, platform, status, limit, cursor)
    items = [FileView(**files.describe(file)) for file in found]
    return FilePage(items=items, cursor=str(found[-1].id) if len(found) == limit else None)


@router.get("/files/{file_id}")
async def show_file(file_id: FileId, request: Request) -> FileView:
    """Show a file with its last sync."""
    return FileView(**files.describe(await asyncio.to_thread(files.get, _app(request).database, file_id)))


@router.get("/files/{file_id}/rejections")
async def list_rejections(
    file_id: FileId, request: Request, limit: Limit = 100, cursor: Cursor = None
) -> RejectionPage:
    """List what the last sync of a file refused: line, column, value and reason."""
    database = _app(request).database
    await asyncio.to_thread(files.get, database, file_id)
    found = await asyncio.to_thread(files.rejections, database, file_id, limit, cursor)
    items = [RejectionView(**each) for each in found]
    return RejectionPage(items=items, cursor=str(items[-1].line) if len(found) == limit else None)


@router.get("/rows")
async def list_rows(
    request: Request,
    platform: Annotated[Platform, Query(description="`shopee` or `generic`.")],
    file_id: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Rows that this file wrote last.")] = None,
    limit: Limit = 100,
    cursor: RowCursor = None,
) -> RowPage:
    """List the rows of a platform in the order of their keys."""
    place = _row_place(platform, cursor)
    found = await asyncio.to_thread(files.rows, _app(request).database, platform, file_id, limit, place)
    places = [row.pop("cursor") for row in found]
    return RowPage(items=found, cursor=_row_cursor(places[-1]) if len(found) == limit else None)


@router.post("/sync-single-file", status_code=202, responses=fails(Conflict, NotFound, TooMany))
async def sync_single_file(
    body: SyncSingleFile, request: Request, response: Response, idempotency_key: IdempotencyKey = None
) -> SyncView:
    """Sync a file in a task of its own."""
    app = _app(request)
    await asyncio.to_thread(files.get, app.database, body.file_id)
    asked = TaskRequest("data_sync.sync_file", [body.file_id], priority=body.priority)
    submission = await submit(app, asked, by=request.state.token, idempotency_key=idempotency_key)
    if not submission.repeated:
        await asyncio.to_thread(mark_queued, app.database, body.file_id, submission.task_id)
    return _answer(accepted(response, submission))


@router.post("/sync-batch", status_code=202, responses=fails(Conflict, TooMany))
async def sync_batch(
    body: SyncBatch, request: Request, response: Response, idempotency_key: IdempotencyKey = None
) -> SyncView:
    """Sync files that have not been synced, the oldest first, each in a task; this one shows overall progress."""
    app = _app(request)
    if body.platform is not None:
        check_platform(body.platform)
    found = await asyncio.to_thread(files.unsynced, app.database, body.platform, body.limit)
    kwargs = {"file_ids": [file.id for file in found], "priority": body.priority}
    asked = TaskRequest("data_sync.sync_batch", kwargs=kwargs, priority=body.priority)
    # Which files those are has changed when the same is asked for again.
    same = f"sync-batch {body.model_dump_json()}"
    submission = await submit(app, asked, by=request.state.token, idempotency_key=idempotency_key, fingerprint=same)
    return _answer(accepted(response, submission))


@router.get("/task-status/{task_id}", response_model_exclude_unset=True)
async def task_status(task_id: TaskId, request: Request) -> TaskView:
    """Show a task's state, progress and result; the same as `GET /tasks/{id}`."""
    return view(await asyncio.to_thread(_app(request).records.require, task_id))


@router.delete("/cancel-task/{task_id}", response_model_exclude_unset=True, responses=fails(Conflict))
async def cancel_sync(task_id: TaskId, request: Request) -> TaskView:
    """Cancel a task: what it has committed stays, no batch is left half-written."""
    return view(await asyncio.to_thread(_cancel, _app(request), task_id))


def _app(request: Request) -> CeleriacApp:
    app: CeleriacApp = request.app.state.celeriac
    return app


def _cancel(app: CeleriacApp, task_id: str) -> TaskRecord:
    record = cancel(app, task_id)
    file_id = files.file_of(app.database, task_id)
    if file_id is not None and files.get(app.database, file_id).status is FileStatus.QUEUED:
        mark_cancelled(app.database, file_id, task_id)
    return record


def _answer(submitted: SubmitView) -> SyncView:
    return SyncView(**submitted.model_dump(), celery_task_id=submitted.task_id)


def _row_cursor(place: Sequence[str]) -> str:
    *dataset, key = place
    return f"{''.join(dataset)}:{key}"


def _row_place(platform: str, cursor: str | None) -> list[str] | None:
    if cursor is None:
        return None
    if not re.search(ROW_CURSOR, cursor):
        raise InvalidInput("cursor", cursor, "give the cursor of a page of this list as it is")
    dataset, _, key = cursor.partition(":")
    return [dataset, key] if platform == "generic" else [key]
