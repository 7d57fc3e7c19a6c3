"""A FastAPI application that runs its background work itself, as people write it without a queue."""

from __future__ import annotations

import asyncio
import os
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel

from celeriac.database import Database
from celeriac.storage import open_store
from workloads.data_sync.sync import sync_file

api = FastAPI()
database = Database(os.environ.get("DATABASE_URL", "sqlite://"))
store = open_store(os.environ.get("CELERIAC_FILE_STORE", "db:"), database)
#: A loop alone keeps no task alive.
running: set[asyncio.Task[object]] = set()


class Sync(BaseModel):
    """Which file to sync."""

    file_id: int


@api.post("/thread", status_code=202)
async def sync_in_a_thread(body: Sync) -> dict[str, str]:
    """Sync a file in a task of the event loop that waits for a thread."""
    task_id = str(uuid4())
    return _start(asyncio.create_task(asyncio.to_thread(sync_file, database, store, body.file_id, task_id)), task_id)


@api.post("/loop", status_code=202)
async def sync_in_the_loop(body: Sync) -> dict[str, str]:
    """Sync a file in a task of the event loop, which does nothing else meanwhile."""
    task_id = str(uuid4())

    async def run() -> object:
        return sync_file(database, store, body.file_id, task_id)

    return _start(asyncio.create_task(run()), task_id)


@api.get("/health/live")
async def live() -> dict[str, str]:
    """Answer."""
    return {"status": "alive"}


def _start(task: asyncio.Task[object], task_id: str) -> dict[str, str]:
    running.add(task)
    task.add_done_callback(running.discard)
    return {"task_id": task_id}
