"""`celeriac check`: checks a deployment and prints the filled-in report."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import ExitStack
from enum import StrEnum
from getpass import getuser
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from celeriac.checks.deployment import Deployment
from celeriac.checks.kubernetes import Kubernetes, Release
from celeriac.checks.report import COLUMNS, Report
from celeriac.checks.run import Run, Sizes, run_checks
from celeriac.checks.suites import SUITES, Suite
from celeriac.checks.target import Commands, Nothing, Part, Target
from celeriac.client import Client
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.errors import ConfigurationError, InvalidInput
from celeriac.settings import load_settings


class Kind(StrEnum):
    """Where a deployment runs."""

    LOCAL = "local"
    KUBERNETES = "kubernetes"


def check(
    suite: Annotated[Suite, typer.Argument(help="Which checks.", show_default=False)],
    url: Annotated[str | None, typer.Option(help="The API's address; default: that of the settings.")] = None,
    token: Annotated[str | None, typer.Option(help="A token with all scopes; default: that of the settings.")] = None,
    target: Annotated[
        Kind | None, typer.Option(help="How parts are killed: as processes of `celeriac up`, or as pods by kubectl.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="The release's namespace, for kubernetes.")] = "default",
    release: Annotated[str, typer.Option(help="The release, for kubernetes.")] = "celeriac",
    stop_worker: Annotated[str | None, typer.Option(help="Without --target: a command that kills the worker.")] = None,
    start_worker: Annotated[str | None, typer.Option(help="One that starts it and returns.")] = None,
    stop_redis: Annotated[str | None, typer.Option(help="Without --target: a command that kills Redis.")] = None,
    start_redis: Annotated[str | None, typer.Option(help="One that starts it and returns.")] = None,
    tester: Annotated[str | None, typer.Option(help="Who checks; default: the user.", show_default=False)] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A check to leave out, by its name; repeatable.")] = None,
    requests: Annotated[int, typer.Option(min=100, help="Submits of all clients together.")] = 1000,
    tasks: Annotated[int, typer.Option(min=100, max=10_000, help="Tasks whose Redis memory is measured.")] = 1000,
    task_seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=240,
            help="How long tasks run that are interrupted; default: 8, or 40 for kubernetes, where kills take seconds.",
            show_default=False,
        ),
    ] = None,
    await_expiry: Annotated[
        float, typer.Option(min=0, help="Wait so many seconds for results to expire and free their memory.")
    ] = 0,
    report: Annotated[Path | None, typer.Option(help="Also write the report to this Markdown file.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check a deployment and print a report. It runs tasks of workloads.examples, and kills workers and Redis.

    status: submit a task, follow it, cancel it until it is REVOKED. recovery: kill the worker while tasks run.
    performance: submits of ten clients, execution, concurrency, Redis memory. stress: submits of a hundred clients,
    a restart of everything, Redis away. all: the four of them. Exits with 1 where a figure is missed, with 3 where one
    could not be measured.
    """
    skipped = _skipped(skip or [])
    stop = {part: text for part, text in ((Part.WORKER, stop_worker), (Part.REDIS, stop_redis)) if text}
    start = {part: text for part, text in ((Part.WORKER, start_worker), (Part.REDIS, start_redis)) if text}
    if target and (stop or start):
        raise InvalidInput("--target", target.value, "give a target, or commands that stop and start, not both")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with ExitStack() as stack:
        chart = Release(release, namespace)
        if target is Kind.KUBERNETES:
            token = token or chart.token()
            url = url or stack.enter_context(chart.forwarded())
        settings = load_settings(data_dir)
        url = url or settings.api.url
        token = token or (settings.api_token.get_secret_value() if settings.api_token else "")
        deployment = Deployment.find(stack.enter_context(Client(url, token, patience_seconds=0)))
        way: Target = Commands(stop, start) if stop or start else Nothing()
        if target is Kind.KUBERNETES:
            way = Kubernetes(chart, deployment.queue)
        elif target is Kind.LOCAL:
            way = _local(settings.data_dir, deployment.queue)
        # Scaled to zero, a worker may end what it runs until kubectl and the kubelet have killed it.
        task_seconds = task_seconds or (40 if target is Kind.KUBERNETES else 8)
        run = Run(deployment, way, url, token, Sizes(requests, tasks, task_seconds, await_expiry))
        done = run_checks(run, SUITES[suite], skipped=skipped, tester=tester or _user(), tell=_tell)
    _print(done, as_json=as_json)
    if report:
        report.write_text(done.as_markdown())
    raise typer.Exit(done.exit_code)


def _end(number: int, _frame: object) -> NoReturn:
    """End as Ctrl-C does: what was stopped is started again."""
    raise SystemExit(128 + number)


def _local(data_dir: Path, queue: str) -> Target:
    try:
        from celeriac.checks.local import Local  # noqa: PLC0415 - its library is an extra
    except ImportError as error:
        msg = f"--target local: {error}; pip install 'celeriac[local]'"
        raise ConfigurationError(msg) from None
    return Local(data_dir, queue)


def _skipped(names: Collection[str]) -> frozenset[str]:
    known = [each.name for each in SUITES[Suite.ALL]]
    for name in names:
        if name not in known:
            raise InvalidInput("--skip", name, f"no such check; known are {', '.join(known)}")
    return frozenset(names)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_json())
        return
    print_table(["report", ""], report.heading)
    typer.echo()
    print_table(COLUMNS, report.table)


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # in a container whose user has no name
        return str(os.getuid())
