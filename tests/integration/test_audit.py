"""The audit log: what is recorded of administrative acts, what is not, and what happens while it cannot be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as ASGIScope
from structlog.testing import capture_logs

from celeriac import CeleriacApp
from celeriac.access import Act, AuditLog, Scope, Token, token_hash
from celeriac.access.audit import Audited
from celeriac.database import engine
from celeriac.database.migrate import Migrations
from celeriac_api import audit as middleware
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http
from tests.servers import free_port

TOKEN = "a-token"
OPS = Token("ops", frozenset(Scope))
MakeApp = Callable[..., CeleriacApp]


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, redis_url: str, make_app: MakeApp) -> CeleriacApp:
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    Migrations(url, []).upgrade()
    return make_app(redis_url=redis_url, database_url=url, workloads=("workloads.examples",))


@pytest.fixture
def http(app: CeleriacApp) -> Http:
    return client(app)


def client(app: CeleriacApp) -> Http:
    """A client whose token is named `ops` and may do everything."""
    api = create_api(app, Authenticator({token_hash(TOKEN): OPS}, dict))

    @api.post("/admin/fails")
    def fails() -> None:
        raise RuntimeError("a mistake of ours")

    @api.put("/admin/things/{name}")
    async def put(name: str, body: dict[str, Any]) -> None:
        pass

    return Http(api, TOKEN)


def acts(http: Http, **parameters: Any) -> list[dict[str, Any]]:
    answer = http.get("/admin/audit", params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def parameters_of(http: Http, body: Any) -> Any:
    """What is recorded of a body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = f"/admin/things/{uuid4()}"
    http.send("PUT", path, content=content, headers={"Content-Type": "application/json"})
    (act,) = acts(http, limit=1)
    assert act["target"] == path
    return act["parameters"]["body"]


def test_a_change_says_who_did_what_to_what_with_what_when_from_where_and_how_it_ended(http: Http):
    before = datetime.now(UTC)
    with capture_logs() as logs:
        http.post("/admin/dead-letters/replay?why=it+is+repaired", json={"queue": "default"})
    (act,) = acts(http)
    assert before <= datetime.fromisoformat(act.pop("at")) + timedelta(milliseconds=1)
    assert act.pop("id").isdigit()
    expected = {
        "who": "ops",
        "what": "POST /admin/dead-letters/replay",
        "target": "/admin/dead-letters/replay",
        "parameters": {"query": {"why": ["it is repaired"]}, "body": {"queue": "default"}},
        "status": 200,
        "client": "10.0.0.7",
    }
    assert act == expected
    assert [line for line in logs if line["event"] == "audit"] == [{"event": "audit", "log_level": "info", **expected}]


def test_whoever_has_the_answer_finds_the_record(app: CeleriacApp):
    seen: list[tuple[str, int]] = []

    async def answer(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await Response(b"done")(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        seen.append((message["type"], len(app.audit.page(limit=2))))

    scope = {"type": "http", "method": "POST", "path": "/admin/x", "query_string": b"", "state": {"token": OPS}}
    asyncio.run(middleware.Audit(answer, audit=app.audit)(scope, receive, send))
    assert seen == [("http.response.start", 1), ("http.response.body", 1)]


def test_what_was_tried_and_failed_is_recorded_with_its_status(http: Http):
    assert http.delete("/admin/dead-letters/17").status_code == 404
    assert http.post("/admin/dead-letters/drop", json={"nothing": 1}).status_code == 422
    assert http.post("/admin/nowhere").status_code == 404
    assert http.post("/admin/fails").status_code == 500
    assert [(act["what"], act["target"], act["status"]) for act in acts(http)] == [
        ("POST /admin/fails", "/admin/fails", 500),
        ("POST unmatched", "/admin/nowhere", 404),
        ("POST /admin/dead-letters/drop", "/admin/dead-letters/drop", 422),
        ("DELETE /admin/dead-letters/{tag}", "/admin/dead-letters/17", 404),
    ]


def test_what_changes_nothing_for_administrators_is_not_recorded(http: Http, app: CeleriacApp):
    http.get("/admin/queues")
    http.post("/tasks", json={"name": "examples.add", "args": [1, 2]})
    stranger = Http(create_api(app, Authenticator({token_hash("r"): Token("r", frozenset({Scope.READ}))}, dict)), "r")
    assert stranger.post("/admin/fails").status_code == 403
    assert acts(http) == []


@pytest.mark.parametrize("name", ["password", "SMTP_PASSWORD", "api_key", "apiKey", "token", "client_secret", "Cookie"])
def test_no_secret_is_recorded(http: Http, name: str):
    secret = "hunter2-hunter2"
    with capture_logs() as logs:
        shown = parameters_of(http, {"deep": [{name: secret, "host": "mail"}]})
        http.post("/admin/fails", params={name: secret})
    assert shown == {"deep": [{name: "[hidden]", "host": "mail"}]}
    assert secret not in json.dumps(acts(http))
    assert secret not in repr([line for line in logs if line["event"] == "audit"])


def test_secrets_within_texts_are_hidden(http: Http):
    token = f"cel_{'x' * 43}"
    shown = parameters_of(http, {"url": "redis://user:hunter2@host/0", "note": f"made {token}."})
    assert shown == {"url": "redis://user:[hidden]@host/0", "note": "made [hidden]."}
    http.send("PUT", f"/admin/things/{token}", json={})
    assert acts(http)[0]["target"] == "/admin/things/[hidden]"


def test_large_and_unreadable_bodies_are_left_out_and_said_to_be(http: Http):
    assert parameters_of(http, {"x": "y" * middleware.MAX_RECORDED}) == "left out: more than 4096 bytes"
    assert parameters_of(http, b"{") == "left out: no JSON"
    assert parameters_of(http, b"\xff") == "left out: no JSON"
    assert parameters_of(http, b"[" * 4000) == "left out: no JSON"
    assert parameters_of(http, {"x": "y" * 4000}) == {"x": "y" * 4000}
    http.post("/admin/fails", params={"x": "y" * 5000})
    assert acts(http)[0]["parameters"] == {"query": "left out: more than 4096 bytes"}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a\\u0000": "b\\u0000"}', {"a\ufffd": "b\ufffd"}),
        (b'{"a": "\\ud800"}', {"a": "\ufffd"}),
        (b'{"a": NaN, "b": 1e999}', {"a": "nan", "b": "inf"}),
        (b'{"a": 1' + b"0" * 400 + b"}", {"a": 10**400}),
    ],
)
def test_no_body_keeps_its_own_record_out_of_the_database(http: Http, body: bytes, shown: object):
    assert parameters_of(http, body) == shown


def test_a_path_that_no_database_takes_is_recorded(http: Http):
    http.send("PUT", "/admin/things/%00" + "x" * 1000, json={})
    assert acts(http)[0]["target"].startswith("/admin/things/\ufffdxxx")


def test_acts_are_listed_in_pages(http: Http):
    for number in range(5):
        http.delete(f"/admin/dead-letters/{number + 1}")
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        page = http.get("/admin/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) == size
        seen += [act["target"].rpartition("/")[2] for act in page["items"]]
        http.delete("/admin/dead-letters/99")  # what comes in between moves nothing
        cursor = page["cursor"]
    assert (seen, cursor) == (["5", "4", "3", "2", "1"], None)
    for wrong in ({"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"cursor": 2**63}):
        assert http.get("/admin/audit", params=wrong).status_code == 422


def test_rows_are_removed_after_the_time_that_is_set(app: CeleriacApp):
    def record(target: str, log: AuditLog) -> None:
        log.record(Act("ops", "POST /admin/x", target, {}, 200, "here"))

    record("old", app.audit)
    record("young", app.audit)
    with app.database.write() as session:
        for target, days in (("old", 91), ("young", 89)):
            at = datetime.now(UTC) - timedelta(days=days)
            session.execute(update(Audited).where(Audited.target == target).values(at=at))
    record("now", AuditLog(app.database, app.settings.audit.retention_days))
    with app.database.read() as session:
        assert session.scalars(select(Audited.target).order_by(Audited.id)).all() == ["young", "now"]


def test_while_the_database_is_away_the_act_is_done_and_the_log_has_it(redis_url: str, make_app: MakeApp):
    url = f"postgresql://user:database-secret@127.0.0.1:{free_port()}/none"
    http = client(make_app(redis_url=redis_url, database_url=url))
    with capture_logs() as logs:
        answer = http.post("/admin/dead-letters/replay", json={"queue": "default"})
        assert answer.json() == {"replayed": 0}
    (line,) = [line for line in logs if line["event"].startswith("audit")]
    assert (line["event"], line["log_level"]) == ("audit_unrecorded", "warning")
    assert (line["who"], line["what"]) == ("ops", "POST /admin/dead-letters/replay")
    assert (line["parameters"], line["status"]) == ({"body": {"queue": "default"}}, 200)
    assert "database-secret" not in repr(line)
    assert http.get("/admin/audit").status_code == 503


def test_a_database_that_does_not_answer_delays_an_act_no_longer_than_it_may(
    redis_url: str, sqlite_url: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
):
    Migrations(sqlite_url, []).upgrade()
    monkeypatch.setattr(engine, "SQLITE_BUSY_TIMEOUT_MS", 1000)
    monkeypatch.setattr(middleware, "PATIENCE_SECONDS", 0.1)
    app = make_app(redis_url=redis_url, database_url=sqlite_url)
    http = client(app)
    with app.database.write() as session, capture_logs() as logs:
        session.execute(text("SELECT 1"))  # takes SQLite's lock
        assert http.post("/admin/dead-letters/replay", json={}).status_code == 200
    assert [line["event"] for line in logs] == ["audit_late", "audit_unrecorded"]
