"""The HTTP API without any server behind it: who may do what, what errors say, and how it lives without Redis."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from celeriac import CeleriacApp
from celeriac.access import Scope, Token, token_hash
from celeriac.errors import ConfigurationError
from celeriac.settings import LogSettings
from celeriac.telemetry import configure_logs
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.contract.document import Contract
from tests.servers import free_port

MakeApp = Callable[..., CeleriacApp]

READ, SUBMIT, BOTH, NONE = "token-read", "token-submit", "token-of-both", "token-without-scopes"
ADMIN = "token-admin"
EXPIRED = "token-of-yesterday"
UNKNOWN = "token-nobody-knows"
LIMIT = 1000


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> CeleriacApp:
    """A platform whose Redis is away."""
    return make_app(
        redis_url=f"redis://:redis-secret@127.0.0.1:{free_port()}/0",
        database_url=f"sqlite:///{tmp_path / 'celeriac.db'}",
        data_dir=str(tmp_path),
        api={"max_body_bytes": LIMIT, "max_upload_bytes": 2 * LIMIT},
    )


@pytest.fixture
def api(app: CeleriacApp) -> FastAPI:
    return api_of(app)


def api_of(app: CeleriacApp) -> FastAPI:
    scopes = {
        READ: {Scope.READ},
        SUBMIT: {Scope.SUBMIT},
        BOTH: {Scope.READ, Scope.SUBMIT},
        NONE: set[Scope](),
        ADMIN: {Scope.ADMIN},
    }
    tokens = {token_hash(token): Token("-".join(given), frozenset(given)) for token, given in scopes.items()}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    tokens[token_hash(EXPIRED)] = Token("expired", frozenset(Scope), expires_at=yesterday)
    return create_api(app, Authenticator({}, lambda: tokens))


def send(api: FastAPI, method: str, path: str, token: str | None = BOTH, **options: Any) -> httpx.Response:
    """Send one request; an error that no handler answers is an answer of 500."""
    headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, headers=headers, **options)

    response = asyncio.run(request())
    Contract(api.openapi()).check(response)
    return response


def problem(response: httpx.Response, status: int) -> str:
    """Check the form of an error and give its detail."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body.keys() - {"retry_after"} == {"type", "title", "status", "detail"}
    assert str(body.get("retry_after")) == str(response.headers.get("Retry-After"))
    assert body["status"] == status
    assert body["title"]
    assert re.fullmatch("urn:celeriac:error:[a-z-]+", body["type"])
    return str(body["detail"])


@pytest.mark.parametrize(
    ("token", "method", "needs"),
    [(READ, "POST", "submit"), (READ, "DELETE", "submit"), (SUBMIT, "GET", "read"), (NONE, "GET", "read")],
)
def test_a_token_without_the_scope_is_refused(api: FastAPI, token: str, method: str, needs: str):
    path = "/tasks" if method == "POST" else "/tasks/one"
    detail = problem(send(api, method, path, token), 403)
    assert f"scope {needs}" in detail
    assert "yours has" in detail


@pytest.mark.parametrize(("token", "method"), [(READ, "GET"), (SUBMIT, "DELETE"), (BOTH, "GET"), (BOTH, "DELETE")])
def test_a_token_with_the_scope_passes(api: FastAPI, token: str, method: str):
    assert "Redis cannot be reached" in problem(send(api, method, "/tasks/one", token), 503)


def test_what_lies_under_admin_needs_scope_admin_and_nothing_else_does(api: FastAPI):
    paths = send(api, "GET", "/openapi.json", None).json()["paths"]
    assert "/admin/queues" in paths
    for path, methods in paths.items():
        if path.startswith(("/health", "/metrics")):
            continue
        for method in methods:
            asked = path.replace("{", "").replace("}", "")
            refused = [token for token in (BOTH, ADMIN) if send(api, method.upper(), asked, token).status_code == 403]
            administrative = path.startswith("/admin/") or path == "/tasks/cancel"
            assert refused == ([BOTH] if administrative else [ADMIN]), (method, path)


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/", "/admin/nothing", "/admin%2Fqueues", "//admin/queues", "/Admin/queues"]
)
def test_no_other_spelling_leads_to_what_lies_under_admin(api: FastAPI, path: str):
    assert send(api, "GET", path).status_code in {403, 404}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {UNKNOWN}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {BOTH}"},
        {"Authorization": BOTH},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/tasks/one"), ("POST", "/tasks"), ("GET", "/api/data-sync/files")]
)
def test_without_a_known_token_nothing_is_shown(api: FastAPI, headers: dict[str, str], method: str, path: str):
    response = send(api, method, path, None, headers=headers)
    detail = problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer <token>" in detail or "`celeriac env` shows" in detail
    assert UNKNOWN not in detail


def test_a_token_that_has_expired_is_refused_and_says_so(api: FastAPI):
    response = send(api, "GET", "/tasks/one", EXPIRED)
    assert "this token expired at " in problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_what_comes_after_the_guard_knows_the_name_of_the_token(api: FastAPI):
    seen: list[Token] = []

    @api.get("/who")
    def who(request: Request) -> None:
        seen.append(request.state.token)

    assert send(api, "GET", "/who", READ).status_code == 200
    assert [(token.name, token.scopes) for token in seen] == [("read", {Scope.READ})]


def test_every_route_but_health_metrics_and_documentation_needs_a_token(api: FastAPI):
    paths = send(api, "GET", "/openapi.json", None).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            status = send(api, method.upper(), path.replace("{", "").replace("}", ""), None).status_code
            assert (status == 401) != path.startswith(("/health", "/metrics")), (method, path, status)


def test_an_api_without_a_token_does_not_start(app: CeleriacApp):
    with pytest.raises(ConfigurationError, match=r"CELERIAC_API_TOKEN: not set; .*openssl rand -hex 32"):
        create_api(app)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, ["name: Field required"]),
        ({"name": 5}, ["name: ", "valid string", "(got 5)"]),
        ({"name": "examples.ad"}, ["name: no such task; known are ", "examples.add", "(got 'examples.ad')"]),
        ({"name": "examples.add", "queue": "fast"}, ["queue: no such queue; known are ", "default", "(got 'fast')"]),
        ({"name": "examples.add", "priority": 12}, ["priority: ", "less than or equal to 9", "(got 12)"]),
        ({"name": "examples.add", "priority": True}, ["priority: ", "valid integer", "(got True)"]),
        ({"name": "examples.add", "args": 1}, ["args: ", "valid array", "(got 1)"]),
        ({"name": "examples.add", "eta": "2026-01-31T12:00:00"}, ["eta: ", "timezone", "(got '2026-01-31T12:00:00')"]),
        ({"name": "examples.add", "countdown": -1}, ["countdown: ", "greater than or equal to 0", "(got -1)"]),
        ({"name": "examples.add", "countdown": 1, "eta": "2026-01-31T12:00Z"}, ["countdown: give countdown or eta, "]),
        ({"name": "examples.add", "prio": 1}, ["prio: ", "not permitted", "(got 1)"]),
        ([1], ["body: ", "object", "(got [1])"]),
        ({"name": 5, "priority": 12}, ["name: ", "; priority: "]),
    ],
)
def test_a_wrong_submit_names_the_field_its_value_and_what_would_be_right(api: FastAPI, body: object, named: list[str]):
    detail = problem(send(api, "POST", "/tasks", json=body), 422)
    for words in named:
        assert words in detail


def test_a_long_value_is_shown_shortened(api: FastAPI):
    detail = problem(send(api, "POST", "/tasks", json={"name": "examples.add", "args": "x" * 900}), 422)
    assert "xxx" in detail
    assert len(detail) < 250


@pytest.mark.parametrize("content", [b"{x", b"\xff\xfe", b'{"name": "examples.add"'])
def test_a_body_that_is_no_json_is_refused_by_its_name(api: FastAPI, content: bytes):
    response = send(api, "POST", "/tasks", content=content, headers={"Content-Type": "application/json"})
    detail = problem(response, 422)
    assert detail.startswith("body: ")
    assert "JSON" in detail
    assert "(got {})" not in detail


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/task/one", 404), ("PUT", "/tasks", 405)])
def test_a_wrong_path_or_method_is_a_problem(api: FastAPI, method: str, path: str, status: int):
    response = send(api, method, path)
    problem(response, status)
    if status == 405:
        assert response.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/task/one", 404), ("PUT", "/tasks", 405)])
def test_a_wrong_path_or_method_is_named_with_the_way_out(api: FastAPI, method: str, path: str, status: int):
    detail = problem(send(api, method, path), status)
    assert path in detail
    assert "/docs" in detail or "POST" in detail


def test_a_body_whose_length_says_too_much_is_refused_unread(api: FastAPI):
    detail = problem(send(api, "POST", "/tasks", content=b"x" * (LIMIT + 1)), 413)
    assert f"body: at most {LIMIT} bytes" in detail
    assert "raise the limit" in detail


def test_a_body_without_a_length_is_refused_when_it_grows_too_large(api: FastAPI):
    sent: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            sent.append(number)
            yield b"x" * (LIMIT // 2)

    response = send(api, "POST", "/tasks", content=chunks(), headers={"Content-Type": "application/json"})
    assert "Content-Length" not in response.request.headers
    assert f"body: at most {LIMIT} bytes" in problem(response, 413)


def test_an_upload_has_a_limit_of_its_own(api: FastAPI):
    def upload(size: int) -> httpx.Response:
        return send(api, "POST", "/api/data-sync/files", files={"file": ("a.csv", b"x" * size)})

    problem(upload(LIMIT + LIMIT // 2), 422)
    assert f"at most {2 * LIMIT} bytes" in problem(upload(2 * LIMIT), 413)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics"])
def test_operations_need_no_token_and_answer_while_redis_is_away(api: FastAPI, path: str):
    assert send(api, "GET", path, None).status_code == 200


def test_without_redis_the_platform_is_degraded(api: FastAPI):
    health = send(api, "GET", "/health", None)
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert health.json()["checks"]["database"] == "ok"
    assert health.json()["checks"]["redis"].startswith("away")
    assert "redis-secret" not in health.text


def test_without_its_database_the_platform_is_unhealthy(make_app: MakeApp):
    app = make_app(
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        database_url=f"postgresql://user:database-secret@127.0.0.1:{free_port()}/none",
    )
    api = api_of(app)
    health = send(api, "GET", "/health", None)
    assert health.status_code == 503
    assert health.json()["status"] == "unhealthy"
    assert health.json()["checks"]["database"].startswith("away")
    assert "database-secret" not in health.text
    assert send(api, "GET", "/health/live", None).json() == {"status": "alive"}
    assert "the database cannot be reached" in problem(send(api, "GET", "/api/data-sync/files"), 503)


def test_metrics_time_requests_by_route_and_leave_out_what_cannot_be_read(api: FastAPI):
    for name in ("one", "two"):
        send(api, "GET", f"/tasks/{name}")
    metrics = send(api, "GET", "/metrics", None)
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert 'celeriac_http_request_seconds_count{method="GET",route="/tasks/{task_id}",status="503"}' in metrics.text
    assert "/tasks/one" not in metrics.text
    assert "celeriac_queue_ready" not in metrics.text, "absent, and not 0"


def test_a_submit_without_redis_says_that_it_was_not_accepted(api: FastAPI):
    response = send(api, "POST", "/tasks", json={"name": "examples.add", "args": [1, 2]})
    assert "the task was not accepted, for Redis cannot be reached" in problem(response, 503)
    assert "redis-secret" not in response.text


def test_the_description_has_examples_and_says_how_errors_look(api: FastAPI):
    described = send(api, "GET", "/openapi.json", None).json()
    schemas = described["components"]["schemas"]
    assert schemas["TaskSubmit"]["example"]["name"] == "examples.add"
    assert schemas["TaskView"]["example"]["state"] == "SUCCESS"
    submitting = described["paths"]["/tasks"]["post"]
    assert submitting["responses"]["422"] == {"$ref": "#/components/responses/InvalidInput"}
    assert "application/problem+json" in described["components"]["responses"]["InvalidInput"]["content"]
    assert submitting["security"] == [{"bearer": ["submit"]}]
    assert schemas["HealthView"]["example"]["status"] == "healthy"


def use_everything(app: CeleriacApp, path: Path, *, fails: bool) -> None:
    """In a process of its own, since logs are configured once for all: answer requests of every kind."""
    with path.open("w") as sys.stderr:
        configure_logs(LogSettings(level="DEBUG"), "api")
        api = api_of(app)
        if fails:
            app.__dict__["records"] = None
        for token in (READ, SUBMIT, BOTH, NONE, UNKNOWN, EXPIRED):
            for method, where in (("GET", "/tasks/one"), ("POST", "/tasks"), ("GET", "/health"), ("GET", "/nowhere")):
                send(api, method, where, token, **({"json": {"name": "examples.add"}} if method == "POST" else {}))


@pytest.fixture(params=[False, True])
def log(request: pytest.FixtureRequest, app: CeleriacApp, tmp_path: Path) -> Iterator[str]:
    """The log of requests that are answered, and of those that meet a mistake of ours."""
    path = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=use_everything, args=(app, path), kwargs={"fails": request.param})
    process.start()
    process.join()
    assert process.exitcode == 0
    return path.read_text()


def test_no_token_and_no_password_is_logged(log: str):
    assert log.count("\n") > 3
    for secret in (READ, SUBMIT, BOTH, NONE, UNKNOWN, EXPIRED, "redis-secret"):
        assert secret not in log


def test_the_documentation_needs_no_other_server(api: FastAPI):
    page = send(api, "GET", "/docs", token=None)
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 3
    for source in sources:
        assert source.startswith("/"), source
        assert send(api, "GET", source, token=None).status_code == 200
