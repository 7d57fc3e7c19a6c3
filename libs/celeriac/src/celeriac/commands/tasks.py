"""`celeriac tasks`: submit, list, follow, cancel, retry and reconcile tasks through the API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from celeriac.client import calls
from celeriac.commands.api import client_of, plain, show, show_list
from celeriac.commands.options import DataDir, Json, print_json
from celeriac.contract.tasks import MAX_BULK, BulkItem, MeasuredTaskPage, TaskPageView, TaskSubmit, TaskView
from celeriac.errors import InvalidInput

tasks = typer.Typer(
    help="Submit, list, follow, cancel, retry and sync tasks.", no_args_is_help=True, add_completion=False
)

TaskId = Annotated[str, typer.Argument(help="What the submit answered as `task_id`.")]
State = Annotated[str | None, typer.Option(help="Only those in this state, such as PENDING.")]
Queue = Annotated[str | None, typer.Option(help="Only those of this queue.")]
Name = Annotated[str | None, typer.Option(help="Only those of this name.")]
Since = Annotated[str | None, typer.Option(help="Only those submitted at this moment or later, ISO 8601.")]
Until = Annotated[str | None, typer.Option(help="Only those submitted before this moment, ISO 8601.")]


@tasks.command()
def submit(
    name: Annotated[str, typer.Argument(help="The task's name, such as examples.add.")],
    args: Annotated[str, typer.Option(help="Positional arguments, a JSON array.")] = "[]",
    kwargs: Annotated[str, typer.Option(help="Named arguments, a JSON object.")] = "{}",
    queue: Annotated[str | None, typer.Option(help="Another queue than the task's own.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, 9 first; 5 if not given.")] = None,
    countdown: Annotated[float | None, typer.Option(help="Seconds to wait before it may run.")] = None,
    eta: Annotated[str | None, typer.Option(help="The moment before which it may not run, ISO 8601.")] = None,
    expires: Annotated[str | None, typer.Option(help="Seconds, or the moment, after which it is not run.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A name for this submit: repeated, it is no other.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for the end and show the task.")] = 0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Submit a task."""
    with client_of(data_dir) as client:
        submitted = client.submit_task(
            name,
            args=_parse("--args", args),
            kwargs=_parse("--kwargs", kwargs),
            queue=queue,
            priority=priority,
            countdown=countdown,
            eta=eta,
            expires=_seconds_or_moment(expires),
            idempotency_key=idempotency_key,
        )
        answer = client.wait(submitted.task_id, timeout_seconds=wait) if wait else submitted
    show(answer, as_json=as_json)


@tasks.command("submit-many")
def submit_many(
    file: Annotated[
        typer.FileText,
        typer.Argument(help='Tasks, a JSON object per line: {"name": …, "args": …}; - for standard input.'),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Submit many tasks; exits with 1 where some were refused. What is wrong with one does not stop the others."""
    asked = [_task(number, line) for number, line in enumerate(file, 1) if line.strip()]
    items: list[BulkItem] = []
    with client_of(data_dir) as client:
        for start in range(0, len(asked), MAX_BULK):
            items += client.submit_tasks(asked[start : start + MAX_BULK]).tasks
    refused = [(place, item.error) for place, item in enumerate(items, 1) if item.error]
    if as_json:
        print_json([plain(item) for item in items])
    else:
        for place, error in refused:
            typer.echo(f"task {place}: {error.detail}", err=True)
        typer.echo(f"{len(items) - len(refused)} submitted, {len(refused)} refused")
    raise typer.Exit(1 if refused else 0)


@tasks.command("list")
def list_tasks(
    state: State = None,
    queue: Queue = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="The `next_cursor` of the page before.")] = None,
    measured: Annotated[bool, typer.Option("--measured", help="With worker and run time; needs scope admin.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first."""
    columns = ["task_id", "name", "queue", "state", "submitted_at"]
    page: TaskPageView | MeasuredTaskPage
    with client_of(data_dir) as client:
        if measured:
            columns += ["worker", "runtime_seconds"]
            page = client.list_measured_tasks(
                state=state, queue=queue, name=name, since=since, until=until, limit=limit, cursor=cursor
            )
        else:
            page = client.list_tasks(
                state=state, queue=queue, name=name, since=since, until=until, limit=limit, cursor=cursor
            )
    if as_json:
        print_json(plain(page))
        return
    show_list(columns, page.tasks, as_json=False)
    if page.next_cursor:
        typer.echo(f"there are more: --cursor {page.next_cursor}")


@tasks.command("show")
def show_task(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a task's state, progress and result."""
    with client_of(data_dir) as client:
        show(client.show_task(task_id), as_json=as_json)


@tasks.command()
def watch(
    task_id: Annotated[str | None, typer.Argument(help="The task; without one all of them, until Ctrl-C.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Follow a task until it has ended, or all tasks for ever; with --json a line for each change."""
    with client_of(data_dir) as client:
        if task_id is None:
            for change in client.follow_tasks():
                told = f"{change.at} {change.state:8} {change.task_id} {change.name}"
                typer.echo(change.model_dump_json() if as_json else told)
            return
        changes = client.follow_task(task_id)
        if not as_json:
            _watch(changes)
            show(client.show_task(task_id), as_json=False)
            return
        for task in changes:
            typer.echo(task.model_dump_json(exclude_unset=True))


def _watch(changes: Iterable[TaskView]) -> None:
    """Show a bar until the last change."""
    from rich.progress import Progress  # noqa: PLC0415 - only where a person reads

    with Progress(transient=True) as progress:
        bar = progress.add_task("", total=None)
        for task in changes:
            words = task.message or task.status
            progress.update(bar, description=words, completed=task.current or 0, total=task.total)


@tasks.command()
def result(task_id: TaskId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print what a task has returned, of any size: a text as it is, anything else as JSON."""
    with client_of(data_dir) as client:
        value = client.show_result(task_id)
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
    chosen = any(option is not None for option in (state, queue, name, since, until))
    if (task_id is not None) + everything + chosen != 1:
        msg = "give an id; or at least one of --state, --queue, --name, --since and --until; or --all"
        raise typer.BadParameter(msg)
    with client_of(data_dir) as client:
        if task_id is not None:
            show(client.cancel_task(task_id), as_json=as_json)
            return
        asked = calls.cancel_tasks(state=state, queue=queue, name=name, since=since, until=until, everything=everything)
        count = sum(part.cancelled for part in client.pages(asked))
    if as_json:
        print_json({"cancelled": count})
    else:
        typer.echo(f"{count} cancelled")


@tasks.command()
def retry(
    task_id: TaskId,
    as_administrator: Annotated[
        bool, typer.Option("--as-administrator", help="With a token of scope admin in the place of submit.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Try a task that has failed again, under its id."""
    with client_of(data_dir) as client:
        again = client.retry_task_as_administrator if as_administrator else client.retry_task
        show(again(task_id), as_json=as_json)


@tasks.command()
def sync(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Find tasks that wait or run by their record, and whose message is nowhere any more; they become FAILURE."""
    examined, marked, skipped = 0, 0, 0
    task_ids: list[str] = []
    with client_of(data_dir) as client:
        for part in client.pages(calls.sync_tasks()):
            examined, marked, skipped = examined + part.examined, marked + part.marked, skipped + part.skipped
            task_ids += part.task_ids
    if as_json:
        print_json({"examined": examined, "marked": marked, "skipped": skipped, "task_ids": task_ids})
    else:
        typer.echo(f"{examined} examined, {marked} marked, {skipped} skipped")


def _task(number: int, line: str) -> TaskSubmit:
    try:
        return TaskSubmit.model_validate_json(line)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        field = ".".join(map(str, wrong["loc"])) or "the line"
        raise InvalidInput(f"line {number}", line.strip(), f"{field}: {wrong['msg']}") from None


def _seconds_or_moment(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _parse(option: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(option, text, f"this is no JSON: {error}") from None
