"""FastAPI endpoints that submit Celery tasks as people write them."""

from __future__ import annotations

import os
from typing import Any

import redis.asyncio
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

app = Celery(broker=os.environ.get("REDIS_URL"), backend=os.environ.get("REDIS_URL"))


@app.task(name="examples.add")
def add(x: float, y: float) -> float:
    """Add two numbers."""
    return x + y


class Submit(BaseModel):
    """A task to submit."""

    name: str
    args: list[Any] = []


class Submitted(BaseModel):
    """Its id."""

    task_id: str


api = FastAPI()
client = redis.asyncio.Redis.from_url(os.environ.get("REDIS_URL", "redis://"))


@api.post("/def", status_code=202)
def submit_in_a_thread(body: Submit) -> Submitted:
    """Submit from FastAPI's pool of threads."""
    return Submitted(task_id=add.delay(*body.args).id)


@api.post("/async", status_code=202)
async def submit_in_the_loop(body: Submit) -> Submitted:
    """Submit from the event loop, which waits meanwhile."""
    return Submitted(task_id=add.delay(*body.args).id)


@api.post("/lpush", status_code=202)
async def submit_a_text(body: Submit) -> Submitted:
    """Push a text of a message's size, which is no task."""
    await client.lpush("default", "x" * 900)  # type: ignore[misc] # redis-py types both kinds of client at once
    return Submitted(task_id=body.name)


@api.post("/empty", status_code=202)
async def submit_nothing(body: Submit) -> Submitted:
    """Answer."""
    return Submitted(task_id=f"{body.name} {len(body.args)}")
