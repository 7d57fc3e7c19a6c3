"""API tokens from the command line to the database to the API, on both databases."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import MetaData, select
from typer import BadParameter
from typer.testing import CliRunner

from celeriac import CeleriacApp
from celeriac.access import AuditLog, Scope, Tokens, token_hash
from celeriac.commands import tokens as commands
from celeriac.database import Database
from celeriac.database.migrate import Migrations
from celeriac.errors import Conflict, InvalidInput, NotFound, Unavailable
from celeriac_api import auth
from celeriac_api.app import create_api
from tests.api import Http
from tests.platform import TOKEN, Platform, api_client, wait_for
from tests.servers import PostgresServer, free_port


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    Migrations(url, []).upgrade()
    database = Database(url)
    yield database
    database.engine.dispose()


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database)


@pytest.fixture
def cli(tmp_path: Path, url: str, database: Database) -> Iterator[Platform]:
    """Only the database of this platform is there."""
    with Platform(tmp_path, f"redis://127.0.0.1:{free_port()}/0", url) as platform:
        yield platform


def create(tokens: Tokens, name: str, *scopes: Scope, expires_at: datetime | None = None) -> str:
    return tokens.create(name, scopes or [Scope.READ], by="cli:test", client="here", expires_at=expires_at)


def revoke(tokens: Tokens, name: str) -> None:
    tokens.revoke(name, by="cli:test", client="here")


def acts(database: Database) -> list[tuple[str, str, str]]:
    return [(act.who, act.what, act.target) for act in AuditLog(database, 90).page(limit=100)]


def everything(database: Database) -> str:
    """All that stands in the tables of tokens and audit."""
    tables = MetaData()
    tables.reflect(database.engine, only=["celeriac_token", "celeriac_audit"])
    with database.read() as session:
        return repr([session.execute(select(table)).all() for table in tables.sorted_tables])


def test_a_token_is_kept_as_its_hash_with_name_scopes_and_end(tokens: Tokens, database: Database):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    secret = create(tokens, "ci", Scope.SUBMIT, Scope.READ, Scope.READ, expires_at=tomorrow)
    assert len(secret) >= len("cel_") + 43, "256 bits"
    assert secret.startswith("cel_")
    token = tokens.all()[token_hash(secret)]
    assert (token.name, token.scopes, token.expires_at) == ("ci", {Scope.READ, Scope.SUBMIT}, tomorrow)
    kept = everything(database)
    assert token_hash(secret) in kept
    assert secret not in kept
    assert secret.removeprefix("cel_") not in kept


def test_no_two_tokens_have_one_name_until_the_first_is_revoked(tokens: Tokens):
    first = create(tokens, "ci")
    with pytest.raises(Conflict, match="there is a token 'ci' already; revoke it first"):
        create(tokens, "ci")
    revoke(tokens, "ci")
    second = create(tokens, "ci")
    assert list(tokens.all()) == [token_hash(second)]
    assert first != second


def test_making_and_revoking_is_recorded_and_what_failed_is_not(tokens: Tokens, database: Database):
    create(tokens, "ci")
    with pytest.raises(Conflict):
        create(tokens, "ci")
    revoke(tokens, "ci")
    with pytest.raises(NotFound, match="no token 'ci': `celeriac tokens list` shows all"):
        revoke(tokens, "ci")
    assert acts(database) == [("cli:test", "tokens revoke", "ci"), ("cli:test", "tokens create", "ci")]


@pytest.mark.parametrize("name", ["", "bootstrap", "cli:root", "a b", "-a", "x" * 101, "a\n"])
def test_a_name_that_would_mislead_is_refused(tokens: Tokens, name: str):
    with pytest.raises(InvalidInput, match="letters, digits"):
        create(tokens, name)
    assert not tokens.all()


def test_the_commands_need_the_database_alone(cli: Platform, database: Database):
    made = cli.run("tokens", "create", "ci", "--scope", "submit", "--scope", "read", "--expires-in", "12h", "--json")
    assert made.returncode == 0, made.stderr
    shown = json.loads(made.stdout)
    assert shown["scopes"] == ["read", "submit"]
    assert 11.9 * 3600 < (datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)).total_seconds() < 12 * 3600
    assert list(Tokens(database).all()) == [token_hash(shown["token"])]

    plain = cli.run("tokens", "create", "ops", "--scope=admin")
    assert token_hash(plain.stdout.strip()) in Tokens(database).all(), "the token alone, for scripts"
    assert "cannot be shown again" in plain.stderr

    listed = cli.run("tokens", "list", "--json").stdout
    assert [(token["name"], token["scopes"]) for token in json.loads(listed)] == [
        ("ci", ["read", "submit"]),
        ("ops", ["admin"]),
    ]
    people = cli.run("tokens", "list").stdout
    for secret in (shown["token"], plain.stdout.strip()):
        assert secret not in listed + people + made.stderr + plain.stderr
        assert token_hash(secret) not in listed + people

    assert cli.run("tokens", "revoke", "ops", "--json").stdout.strip() == '{\n  "revoked": "ops"\n}'
    assert [token.name for token in Tokens(database).all().values()] == ["ci"]
    again = cli.run("tokens", "revoke", "ops")
    assert (again.returncode, "no token 'ops'" in again.stderr) == (1, True)
    assert [what for _, what, _ in acts(database)] == ["tokens revoke", "tokens create", "tokens create"]
    assert all(who.startswith("cli:") for who, _, _ in acts(database))


@pytest.mark.parametrize("options", [[], ["--scope=root"], ["--scope=read", "--expires-in=5"]])
def test_arguments_that_make_no_sense_end_with_2(options: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(commands, "_tokens")
    assert CliRunner().invoke(commands.tokens, ["create", "ci", *options]).exit_code == 2


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1.5h", "9999999999s", "3661d", "1w", " 1d", "1d\n"])
def test_a_lifetime_is_a_number_and_a_unit(text: str):
    assert commands.lifetime("90m") == timedelta(minutes=90)
    with pytest.raises(BadParameter, match="such as 12h or 90d"):
        commands.lifetime(text)


def test_without_its_tables_the_command_says_what_to_do(tmp_path: Path, url: str):
    with Platform(tmp_path, "redis://127.0.0.1:1/0", url) as platform:
        failed = platform.run("tokens", "list")
    assert failed.returncode == 1
    assert "`celeriac migrate` has not run" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_token_of_the_command_works_at_once_within_its_scopes(platform: Platform):
    platform.start_api()

    def answer(secret: str, path: str) -> int:
        with api_client(platform.port, 30) as client:
            return client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code

    assert answer("cel_unknown", "/tasks/one") == 401
    made = [platform.run("tokens", "create", name, f"--scope={name}").stdout.strip() for name in ("read", "admin")]
    assert [answer(secret, "/tasks/one") for secret in made] == [404, 403]
    assert [answer(secret, "/admin/queues") for secret in made] == [403, 200]
    shown = platform.log("api") + json.dumps(platform.http.get("/admin/audit").json())
    assert not any(secret in shown for secret in [*made, TOKEN])


def test_a_revoked_token_stops_and_an_outage_refuses_nobody_who_is_known(
    tmp_path: Path, make_app: Callable[..., CeleriacApp], monkeypatch: pytest.MonkeyPatch
):
    ahead = 0.0
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
    with PostgresServer() as server:
        url = server.create_database()
        Migrations(url, []).upgrade()
        app = make_app(redis_url=f"redis://127.0.0.1:{free_port()}/0", database_url=url, api_token=TOKEN)
        api = create_api(app)

        def status(secret: str) -> int:
            answer = Http(api, secret).get("/openapi")
            if answer.status_code != 404:
                assert answer.headers["Content-Type"] == "application/problem+json"
            return answer.status_code

        kept, revoked = create(app.tokens, "kept"), create(app.tokens, "revoked")
        assert (status(kept), status(revoked), status("cel_unknown")) == (404, 404, 401)
        revoke(app.tokens, "revoked")
        ahead += auth.CACHE_SECONDS
        assert (status(kept), status(revoked)) == (404, 401)
        server.kill()
        assert (status(kept), status(TOKEN)) == (404, 404), "they are known"
        assert status("cel_unknown") == 503, "nobody can say that it is wrong"
        ahead += auth.CACHE_SECONDS
        assert (status(kept), status(TOKEN)) == (503, 404)
        server.start()
        wait_for(lambda: status(kept) == 404, "the database to be back")
        assert status(revoked) == 401


def test_a_database_without_the_tables_of_tokens_makes_them_unavailable(url: str):
    with pytest.raises(Unavailable, match="`celeriac migrate` has not run"):
        Tokens(Database(url)).all()
