"""Submit, follow and cancel tasks."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from celeriac.platform import CeleriacApp
from celeriac.publishing import SubmitView, accepted, cancel, submit
from celeriac.results import TaskView, view

router = APIRouter(prefix="/tasks", tags=["tasks"])

TaskId = Annotated[str, Path(max_length=200, description="What the submit answered as `task_id`.")]


class TaskSubmit(BaseModel):
    """A task to submit."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "examples.add", "args": [2, 3], "priority": 9}}
    )

    name: str = Field(max_length=200, description="The task's name.")
    args: list[Any] = Field([], description="Positional arguments.")
    kwargs: dict[str, Any] = Field({}, description="Named arguments.")
    queue: str | None = Field(None, description="Another queue than the task's own.")
    priority: int | None = Field(None, ge=0, le=9, strict=True, description="0 to 9, 9 first; 5 if not given.")
    countdown: float | None = Field(None, ge=0, le=366 * 86400, description="Seconds to wait before it may run.")
    eta: AwareDatetime | None = Field(None, description="The moment before which it may not run.")
    expires: AwareDatetime | Annotated[float, Field(gt=0, le=366 * 86400)] | None = Field(
        None, description="Seconds from now, or the moment, after which it is not run any more."
    )


@router.post("", status_code=202)
async def submit_task(body: TaskSubmit, request: Request, response: Response) -> SubmitView:
    """Submit a task; `Location` and `status_url` say where to follow it."""
    submission = await submit(
        request.app.state.celeriac,
        body.name,
        body.args,
        body.kwargs,
        queue=body.queue,
        priority=body.priority,
        countdown=body.countdown,
        eta=body.eta,
        expires=body.expires,
    )
    return accepted(response, submission)


@router.get("/{task_id}", response_model_exclude_unset=True)
async def show_task(task_id: TaskId, request: Request) -> TaskView:
    """Show a task's state, progress and result."""
    app: CeleriacApp = request.app.state.celeriac
    return view(await asyncio.to_thread(app.records.require, task_id))


@router.delete("/{task_id}", response_model_exclude_unset=True)
async def cancel_task(task_id: TaskId, request: Request) -> TaskView:
    """Cancel a task: one that waits never starts, one that runs is terminated."""
    return view(await asyncio.to_thread(cancel, request.app.state.celeriac, task_id))
