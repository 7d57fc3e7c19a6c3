"""What Schemathesis cannot know: there are tasks that take any arguments, and waiting for one takes time."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

from tests.contract.tasks import TASKS


@schemathesis.hook("map_case").apply_to(operation_id=["submit_task", "submit_tasks"])
def name_a_task(context: HookContext, case: Case) -> Case:
    """Ask for such a task in most of the requests that are meant to be right."""
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        for task in [case.body, *case.body.get("tasks", ())]:
            _name(task)
    return case


@schemathesis.hook("map_case").apply_to(operation_id="show_task")
def wait_shortly(context: HookContext, case: Case) -> Case:
    """Wait for the end of a task, but not for the minute that is allowed."""
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE and case.query.get("wait"):
        case.query["wait"] = "0.05s"
    return case


def _name(task: dict[str, Any]) -> None:
    # By what was made up, so that a run can be repeated.
    choice = len(str(task)) % (len(TASKS) + 1)
    if "name" in task and choice < len(TASKS):
        task["name"] = TASKS[choice]
        task["queue"] = None
