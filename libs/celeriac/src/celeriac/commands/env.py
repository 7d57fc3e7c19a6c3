"""`celeriac env`: what to export to join a running platform with other tools."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from celeriac.settings import read_environment_file


def env(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The directory that `celeriac up` runs on.")] = Path(
        ".celeriac"
    ),
) -> None:
    """Print the environment of a running platform: eval "$(celeriac env)"; celery -A celeriac.app inspect active."""
    for name, value in read_environment_file(data_dir).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
