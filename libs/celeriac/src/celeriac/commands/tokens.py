"""`celeriac tokens`: makes, lists and revokes API tokens, in the database itself, so that no API needs to run."""

from __future__ import annotations

import os
import re
import socket
from datetime import UTC, datetime, timedelta
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.access import Scope, Token, Tokens
from celeriac.commands.options import DataDir, Json, print_json, print_table
from celeriac.database import Database
from celeriac.rate import Rate
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs

tokens = typer.Typer(help="Make, list and revoke API tokens.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="The token's name; the audit log shows it.")]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_LIFE = timedelta(days=3660)


def lifetime(text: str) -> timedelta:
    """Read a length of time such as `12h`.

    Raises:
        BadParameter: it is none, or none that a token may have.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    life = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else timedelta()
    if not timedelta() < life <= _MAX_LIFE:
        msg = f"a number and s, m, h or d, such as 12h or 90d, at most {_MAX_LIFE.days}d; got {text!r}"
        raise typer.BadParameter(msg)
    return life


def _rate(text: str) -> Rate:
    try:
        return Rate.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@tokens.command()
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be given several times.")],
    expires_in: Annotated[
        timedelta | None,
        typer.Option(parser=lifetime, metavar="TIME", help="How long it works, such as 12h or 90d; default: for ever."),
    ] = None,
    rate: Annotated[
        Rate | None,
        typer.Option(
            parser=_rate,
            metavar="RATE",
            help="How often it may submit, such as 100/s, 600/m or 1000/h; default: CELERIAC_API__TOKEN_RATE_LIMIT.",
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it: this once, for only its hash is kept."""
    expires_at = datetime.now(UTC) + expires_in if expires_in else None
    secret = _tokens(data_dir).create(
        name, scope, by=_user(), client=socket.gethostname(), expires_at=expires_at, rate=rate
    )
    if as_json:
        made = {"name": name, "scopes": sorted(set(scope)), "expires_at": _text(expires_at)}
        print_json(made | {"rate": str(rate) if rate else None, "token": secret})
    else:
        typer.echo(secret)
        typer.echo("Keep it: only its hash is stored, so it cannot be shown again.", err=True)


@tokens.command("list")
def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the tokens in the database, those that have expired among them; CELERIAC_API_TOKEN is not in it."""
    found = [_described(token) for token in _tokens(data_dir).all().values()]
    if as_json:
        print_json(found)
    else:
        columns = ["name", "scopes", "created_at", "expires_at", "rate"]
        print_table(columns, [[*(token | {"scopes": " ".join(token["scopes"])}).values()] for token in found])


@tokens.command()
def revoke(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Revoke a token; every API process refuses it within 60 s."""
    _tokens(data_dir).revoke(name, by=_user(), client=socket.gethostname())
    if as_json:
        print_json({"revoked": name})
    else:
        typer.echo(f"{name} revoked")


def _tokens(data_dir: Path | None) -> Tokens:
    settings = load_settings(data_dir)
    configure_logs(settings.log, "tokens")
    return Tokens(Database(settings.database_url.get_secret_value()))


def _user() -> str:
    try:
        return f"cli:{getuser()}"
    except (KeyError, OSError):  # in a container whose user has no name
        return f"cli:{os.getuid()}"


def _described(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "scopes": sorted(token.scopes),
        "created_at": _text(token.created_at),
        "expires_at": _text(token.expires_at),
        "rate": str(token.rate) if token.rate else None,
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
