"""The `celeriac` command.

Sub-commands come from the entry point group `celeriac.commands`: functions become commands, typer apps groups of them.
Each is imported only when it is used, so that one does not pay for another's libraries.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from celeriac.errors import CeleriacError

COMMANDS = "celeriac.commands"


class Commands(TyperGroup):
    """A group whose commands are entry points."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own Context
        """Name all commands that are installed."""
        return sorted(point.name for point in entry_points(group=COMMANDS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Import the command of that name; None where there is none."""
        for point in entry_points(group=COMMANDS, name=cmd_name):
            return command_of(point)
        return None


# Typer's own tracebacks would show the values of variables, secrets among them.
cli = typer.Typer(cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@cli.callback()
def celeriac() -> None:
    """Celery background work that loses no task."""


def main() -> None:
    """Run the command line; errors that Celeriac raises on purpose are one line and exit code 1."""
    if sys.argv[1:2] == ["worker"]:
        # gevent replaces what blocks before anything else has taken hold of it.
        from celery import maybe_patch_concurrency  # noqa: PLC0415

        maybe_patch_concurrency(sys.argv)
    try:
        cli()
    except CeleriacError as error:
        print(f"celeriac: {error}", file=sys.stderr)  # noqa: T201 - this is a command's output
        sys.exit(1)


def command_of(point: EntryPoint) -> Any:  # noqa: ANN401
    """Import the command that an entry point names."""
    loaded = point.load()
    if not isinstance(loaded, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name=point.name)(loaded)
        loaded = single
    command = typer.main.get_command(loaded)
    command.name = point.name
    return command
