"""What the routes under `/api/data-sync` take and answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from celeriac.contract.moments import Moment
from celeriac.contract.numbers import MAX_ID, WHOLE
from celeriac.contract.page import CursorPage
from celeriac.contract.tasks import SubmitView

#: The names that a file's platform may have.
PLATFORMS = ("generic", "shopee")

#: A platform, for the OpenAPI document; `platforms.check_platform` refuses others and names those that are known.
Platform = Annotated[str, WithJsonSchema({"type": "string", "enum": list(PLATFORMS)})]

_TASK_ID = "5c9c3d5e-9c5f-4c5a-8a43-0a2a4f2f8c11"

#: A place in the list of rows: the dataset of a generic row, and the row's key.
ROW_CURSOR = r"^[0-9a-f]{0,16}:[^\x00]{1,200}$"

_FILE: dict[str, Any] = {
    "file_id": 1,
    "name": "orders.csv",
    "platform": "shopee",
    "key_columns": ["Order ID", "SKU"],
    "size": 104857,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "status": "failed",
    "rows": 512,
    "inserted": 500,
    "updated": 8,
    "unchanged": 3,
    "rejected": 1,
    "last_task_id": _TASK_ID,
    "created_at": "2026-01-31T12:00:00+00:00",
    "synced_at": "2026-01-31T12:00:05+00:00",
    "error": "the file cannot be read from the store",
}
_REJECTION: dict[str, Any] = {"line": 17, "column": "Quantity", "value": "a few", "reason": "no whole number"}


class FileStatus(StrEnum):
    """How far the newest sync of a file got."""

    REGISTERED = "registered"
    QUEUED = "queued"
    SYNCING = "syncing"
    SYNCED = "synced"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SyncSingleFile(BaseModel):
    """Which file to sync."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"file_id": 1, "priority": 9}})

    file_id: Annotated[int, Field(ge=1, le=MAX_ID, description="What the upload answered."), WHOLE]
    priority: Annotated[int, Field(ge=0, le=9), WHOLE] | None = Field(
        None, description="0 to 9, 9 first; 5 if not given."
    )


class SyncBatch(BaseModel):
    """Which files to sync."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"platform": "shopee", "limit": 20, "priority": 5}}
    )

    platform: Platform | None = Field(None, description="Only files of this platform.")
    limit: Annotated[int, Field(ge=1, le=1000, description="How many files at most."), WHOLE] = 100
    priority: Annotated[int, Field(ge=0, le=9), WHOLE] | None = Field(
        None, description="0 to 9, 9 first; 5 if not given."
    )


class SyncView(SubmitView):
    """The answer to a submit."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "task_id": _TASK_ID,
                "status_url": f"/tasks/{_TASK_ID}",
                "mode": "celery",
                "celery_task_id": _TASK_ID,
            }
        }
    )

    celery_task_id: str = Field(description="The same as `task_id`.")


class FileView(BaseModel):
    """A file and its last sync."""

    model_config = ConfigDict(json_schema_extra={"example": _FILE})

    file_id: int
    name: str
    platform: str
    key_columns: list[str] | None
    size: int = Field(description="Bytes.")
    sha256: str
    status: FileStatus
    rows: int | None = Field(description="Records of the file, those of the last sync.")
    inserted: int | None
    updated: int | None
    unchanged: int | None
    rejected: int | None
    last_task_id: str | None
    created_at: Moment
    synced_at: Moment | None
    error: str | None


class FilePage(CursorPage[FileView]):
    """A page of files; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_FILE], "cursor": "17"}})


class RejectionView(BaseModel):
    """A row that the last sync of a file refused."""

    model_config = ConfigDict(json_schema_extra={"example": _REJECTION})

    line: int = Field(description="Where in the file it is, its header being line 1.")
    column: str | None = Field(description="null where it is not one column that is wrong.")
    value: str = Field(description="What stands there, at most 500 characters.")
    reason: str


class RejectionPage(CursorPage[RejectionView]):
    """A page of rejections; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_REJECTION], "cursor": "17"}})


class RowPage(CursorPage[dict[str, Any]]):
    """A page of rows, every column of which is a field; `cursor` gets the next one, and is null at the end."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [{"order_sn": "2601310001", "quantity": 2, "price": "12.5000"}],
                "cursor": ":2601310001",
            }
        }
    )
