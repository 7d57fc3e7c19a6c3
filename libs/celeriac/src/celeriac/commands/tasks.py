"""`celeriac tasks`: submit, list, follow, cancel, retry and reconcile tasks through the API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.errors import InvalidInput
from celeriac.settings import load_settings

tasks = typer.Typer(
    help="Submit, list, follow, cancel, retry and sync tasks.", no_args_is_help=True, add_completion=False
)

TaskId = Annotated[str, typer.Argument(help="What the submit answered as `task_id`.")]
State = Annotated[str | None, typer.Option(help="Only those in this state, such as PENDING.")]
Queue = Annotated[str | None, typer.Option(help="Only those of this queue.")]
Name = Annotated[str | None, typer.Option(help="Only those of this name.")]
Since = Annotated[str | None, typer.Option(help="Only those submitted at this moment or later, ISO 8601.")]
Until = Annotated[str | None, typer.Option(help="Only those submitted before this moment, ISO 8601.")]


def _client(data_dir: Path | None) -> Client:
    return Client.from_settings(load_settings(data_dir))


def _show(task: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(task)
    else:
        print_table(["field", "value"], [(key, json.dumps(value)) for key, value in task.items()])


@tasks.command()
def submit(
    name: Annotated[str, typer.Argument(help="The task's name, such as examples.add.")],
    args: Annotated[str, typer.Option(help="Positional arguments, a JSON array.")] = "[]",
    kwargs: Annotated[str, typer.Option(help="Named arguments, a JSON object.")] = "{}",
    queue: Annotated[str | None, typer.Option(help="Another queue than the task's own.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, 9 first; 5 if not given.")] = None,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for the end and show the task.")] = 0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Submit a task."""
    with _client(data_dir) as client:
        task = client.submit(
            name, args=_parse("--args", args), kwargs=_parse("--kwargs", kwargs), queue=queue, priority=priority
        )
        if wait:
            task = client.wait(task["task_id"], timeout_seconds=wait)
    _show(task, as_json=as_json)


@tasks.command("list")
def list_tasks(
    state: State = None,
    queue: Queue = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="The `next_cursor` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first."""
    with _client(data_dir) as client:
        page = client.tasks(state=state, queue=queue, name=name, since=since, until=until, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    fields = ["task_id", "name", "queue", "state", "submitted_at"]
    print_table(fields, [[task[field] for field in fields] for task in page["tasks"]])
    if page["next_cursor"]:
        typer.echo(f"there are more: --cursor {page['next_cursor']}")


@tasks.command()
def show(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a task's state, progress and result."""
    with _client(data_dir) as client:
        _show(client.task(task_id), as_json=as_json)


@tasks.command()
def watch(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Follow a task until it has ended; with --json a line for each change."""
    with _client(data_dir) as client:
        changes = client.events(task_id)
        if not as_json:
            _show(_watch(changes), as_json=False)
            return
        for task in changes:
            typer.echo(json.dumps(task, ensure_ascii=False))


def _watch(changes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Show a bar until the last change, and give that."""
    from rich.progress import Progress  # noqa: PLC0415 - only where a person reads

    task: dict[str, Any] = {}
    with Progress(transient=True) as progress:
        bar = progress.add_task("", total=None)
        for task in changes:
            words = task.get("message") or task["status"]
            progress.update(bar, description=words, completed=task.get("current", 0), total=task.get("total"))
    return task


@tasks.command()
def result(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print what a task has returned, of any size: a text as it is, anything else as JSON."""
    with _client(data_dir) as client:
        value = client.result(task_id)
    typer.echo(value if isinstance(value, str) and not as_json else json.dumps(value, ensure_ascii=False))


@tasks.command()
def cancel(
    task_id: Annotated[str | None, typer.Argument(help="What the submit answered as `task_id`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tasks that have not ended.")] = False,
    state: State = None,
    queue: Queue = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Cancel a task that waits or runs; without an id, with scope admin, all of those that the options leave."""
    filters = {"state": state, "queue": queue, "name": name, "since": since, "until": until}
    chosen = any(option is not None for option in filters.values())
    if (task_id is not None) + everything + chosen != 1:
        msg = "give an id; or at least one of --state, --queue, --name, --since and --until; or --all"
        raise typer.BadParameter(msg)
    with _client(data_dir) as client:
        if task_id is not None:
            _show(client.cancel(task_id), as_json=as_json)
            return
        count = client.cancel_tasks(**filters, everything=everything)
    if as_json:
        print_json({"cancelled": count})
    else:
        typer.echo(f"{count} cancelled")


@tasks.command()
def retry(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Try a task that has failed again, under its id."""
    with _client(data_dir) as client:
        _show(client.retry(task_id), as_json=as_json)


@tasks.command()
def sync(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Find tasks that wait or run by their record, and whose message is nowhere any more; they become FAILURE."""
    found: dict[str, Any] = {"examined": 0, "marked": 0, "skipped": 0, "task_ids": []}
    cursor = None
    with _client(data_dir) as client:
        while True:
            page = client.sync_tasks(cursor=cursor)
            found = {name: value + page[name] for name, value in found.items()}
            cursor = page["next_cursor"]
            if cursor is None:
                break
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['examined']} examined, {found['marked']} marked, {found['skipped']} skipped")


def _parse(option: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(option, text, f"this is no JSON: {error}") from None
