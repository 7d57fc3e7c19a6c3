"""`celeriac migrate`: brings the database to the models, and makes new migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.commands.options import DataDir
from celeriac.database.migrate import Migrations
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs
from celeriac.workload import load_workloads

migrate = typer.Typer(
    help="Bring the database to the models of all workloads.", invoke_without_command=True, add_completion=False
)


@migrate.callback()
def upgrade(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait", help="Apply nothing; wait until somebody else has.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the database, or for --wait.")] = 60,
    data_dir: DataDir = None,
) -> None:
    """Apply every migration that is missing; safe to run again, and by several at a time."""
    settings = load_settings(data_dir)
    configure_logs(settings.log, "migrate")
    migrations = Migrations(settings.database_url.get_secret_value(), load_workloads(settings.workloads))
    if wait:
        migrations.wait_until_current(timeout)
        return
    migrations.wait_for_database(timeout)
    if context.invoked_subcommand is None:
        applied = migrations.upgrade()
        typer.echo(f"applied {', '.join(applied)}" if applied else "nothing to do")
    context.obj = migrations


@migrate.command("new")
def new(
    context: typer.Context,
    workload: Annotated[str, typer.Argument(help="The workload whose models changed.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What the migration does, in a few words.")],
) -> None:
    """Make a migration of a workload: the difference between its models and the database."""
    migrations: Migrations = context.obj
    typer.echo(migrations.new(workload, message))
