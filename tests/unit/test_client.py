"""The clients of the API: no operation is forgotten, and a request is repeated where that is safe and helps."""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.client import ApiError, AsyncClient, Call, Client, calls
from celeriac.contract.tasks import TaskSubmit
from celeriac.errors import Unavailable
from tests.scripted import Reply, ScriptedApi, problem
from tests.servers import free_port
from tools.reference import FOLDER
from workloads.data_sync import calls as data_sync_calls
from workloads.data_sync.calls import AsyncDataSyncClient, DataSyncClient

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads((FOLDER / "openapi.json").read_text())
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (path, method.upper(), operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

#: Where calls are described, with their clients. A workload's are beside it.
PLACES = [(calls, Client, AsyncClient), (data_sync_calls, DataSyncClient, AsyncDataSyncClient)]
COMMANDS = [*(ROOT / "libs/celeriac/src/celeriac/commands").glob("*.py"), *(ROOT / "workloads").glob("*/commands.py")]

#: What a call names otherwise than the API, for it is a word of Python, and headers that the clients see to.
OTHER_NAMES = {"all": "everything"}
OWN_HEADERS = {"Last-Event-ID"}

#: A value for each kind of parameter.
SAMPLES: dict[str, Any] = {
    "str": "x",
    "int": 1,
    "float": 1.0,
    "bool": True,
    "Moment": "2026-01-31T12:00:00Z",
    "FileStatus": "synced",
    "IO[bytes]": io.BytesIO(b"x"),
    "Sequence[TaskSubmit]": [TaskSubmit(name="x")],
    "Sequence[Any]": [1],
    "Mapping[str, Any]": {"x": 1},
}


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return dict(DOCUMENT["components"]["schemas"][name]) if name else schema


def call_of(name: str) -> tuple[Callable[..., Call[Any]], Any, Any]:
    for module, *clients in PLACES:
        if found := getattr(module, name, None):
            return found, *clients
    pytest.fail(f"no call {name}: add it to celeriac.client.calls, or to the calls of its workload")


def made(call: Callable[..., Call[Any]]) -> Call[Any]:
    """The call with all its parameters."""
    values = {}
    for name, parameter in inspect.signature(call).parameters.items():
        kind = str(parameter.annotation).removesuffix(" | None").split(" | ")[0]
        values[name] = SAMPLES[kind]
    return call(**values)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_a_method_of_both_clients(name: str):
    _, client, async_client = call_of(name)
    for kind in (client, async_client):
        method = getattr(kind, name, None)
        assert method is not None, f"{kind.__name__} has no method {name}: add it to its Operations"
        assert inspect.getdoc(method), name


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_call_sends_all_that_its_operation_takes(name: str):
    path, method, operation = OPERATIONS[name]
    call = made(call_of(name)[0])
    assert call.method == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path)
    named: dict[str, set[str]] = {"query": set(), "header": set(), "path": set()}
    for parameter in operation.get("parameters", []):
        named[parameter["in"]].add(parameter["name"])
    assert call.params.keys() == named["query"]
    assert call.headers.keys() == named["header"] - OWN_HEADERS
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        assert {"file", *(call.form or {})} == resolve(content["multipart/form-data"]["schema"])["properties"].keys()
    elif content:
        assert (call.body or {}).keys() == resolve(content["application/json"]["schema"])["properties"].keys()
    else:
        assert call.body is None
        assert call.form is None


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_can_be_reached_from_the_command_line(name: str):
    used = {
        node.attr
        for path in COMMANDS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"client", "calls"}
    }
    assert name in used, f"no command calls client.{name}"


def test_no_call_is_left_of_an_operation_that_is_gone():
    for _, client, async_client in PLACES:
        for kind in (client, async_client):
            names = {
                name for name, each in inspect.getmembers(kind) if hasattr(each, "call") or hasattr(each, "follow")
            }
            assert names <= OPERATIONS.keys() | {"follow"}


def test_a_client_is_imported_without_the_libraries_of_the_platform():
    heavy = "celery", "kombu", "redis", "sqlalchemy", "fastapi"
    code = f"import sys, celeriac.client; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Repetition: the same for both kinds

SUBMITTED = Reply(202, {"task_id": "one", "status_url": "/tasks/one", "mode": "celery"})
LOST = Reply(hangs_up=True)

Ask = Callable[..., Any]


def blocking(api: ScriptedApi | str, name: str, *args: Any, patience_seconds: float = 5, **kwargs: Any) -> Any:
    url = api if isinstance(api, str) else api.url
    with Client(url, "secret", patience_seconds=patience_seconds) as client:
        answer = getattr(client, name)(*args, **kwargs)
        return list(answer) if inspect.isgenerator(answer) else answer


def with_asyncio(api: ScriptedApi | str, name: str, *args: Any, patience_seconds: float = 5, **kwargs: Any) -> Any:
    async def run() -> Any:
        url = api if isinstance(api, str) else api.url
        async with AsyncClient(url, "secret", patience_seconds=patience_seconds) as client:
            answer = getattr(client, name)(*args, **kwargs)
            return [each async for each in answer] if inspect.isasyncgen(answer) else await answer

    return asyncio.run(run())


@pytest.fixture(params=[blocking, with_asyncio])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    return request.param


def test_a_submit_whose_answer_is_lost_is_repeated_under_its_own_key(ask: Ask):
    with ScriptedApi(LOST, LOST, SUBMITTED) as api:
        assert ask(api, "submit_task", "examples.add", args=[1, 2]).task_id == "one"
    assert len(api.asked) == 3
    assert len({each.headers["Idempotency-Key"] for each in api.asked}) == 1
    assert {json.dumps(each.body) for each in api.asked} == {'{"name": "examples.add", "args": [1, 2], "kwargs": {}}'}
    assert {each.headers["Authorization"] for each in api.asked} == {"Bearer secret"}


def test_two_submits_have_two_keys_and_one_may_be_chosen(ask: Ask):
    with ScriptedApi(SUBMITTED) as api:
        for options in ({}, {}, {"idempotency_key": "order 7"}):
            ask(api, "submit_task", "examples.add", **options)
    first, second, third = [each.headers["Idempotency-Key"] for each in api.asked]
    assert len({first, second}) == 2
    assert third == "order 7"


@pytest.mark.parametrize("name", ["retry_task", "purge_queue", "replay_dead_letter", "drop_dead_letter"])
def test_what_must_not_happen_twice_is_not_repeated_when_its_answer_is_lost(ask: Ask, name: str):
    with ScriptedApi(LOST) as api, pytest.raises(Unavailable, match="does not answer"):
        ask(api, name, "one")
    assert len(api.asked) == 1


def test_an_api_that_says_when_to_come_again_is_asked_again_then(ask: Ask):
    start = time.monotonic()
    with ScriptedApi(problem(503, "unavailable", Retry_After="1"), SUBMITTED) as api:
        assert ask(api, "submit_task", "examples.add").task_id == "one"
    assert time.monotonic() - start >= 1
    assert len(api.asked) == 2


def test_what_was_refused_for_its_rate_is_repeated_whatever_it_is(ask: Ask):
    with ScriptedApi(problem(429, "too-many", Retry_After="0"), SUBMITTED) as api:
        assert ask(api, "retry_task", "one").task_id == "one"
    assert len(api.asked) == 2


def test_what_may_have_been_done_is_not_repeated_after_503(ask: Ask):
    with ScriptedApi(problem(503, "unavailable", Retry_After="0")) as api, pytest.raises(ApiError):
        ask(api, "retry_task", "one")
    assert len(api.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_a_refusal_is_an_error_with_the_words_of_the_api(ask: Ask, status: int):
    with ScriptedApi(problem(status, "some-error")) as api, pytest.raises(ApiError) as caught:
        ask(api, "show_task", "one")
    assert len(api.asked) == 1
    assert str(caught.value) == f"{status} some-error: it is tired"
    assert caught.value.http_status == status
    assert caught.value.problem is not None
    assert caught.value.problem.type == "urn:celeriac:error:some-error"


def test_nobody_waits_longer_than_the_clients_patience(ask: Ask):
    start = time.monotonic()
    with ScriptedApi(problem(503, "unavailable", Retry_After="3600")) as api, pytest.raises(ApiError) as caught:
        ask(api, "submit_task", "examples.add", patience_seconds=1)
    assert len(api.asked) == 1
    assert caught.value.retry_after_seconds == 3600
    with ScriptedApi(LOST) as api, pytest.raises(Unavailable):
        ask(api, "submit_task", "examples.add", patience_seconds=1)
    assert 2 <= len(api.asked) < 10
    assert time.monotonic() - start < 10


def test_an_api_that_is_not_there_is_tried_until_it_is(ask: Ask):
    url = f"http://127.0.0.1:{free_port()}"
    start = time.monotonic()
    with pytest.raises(Unavailable, match=rf"the API at {url}.* does not answer: .*; does it run\?"):
        ask(url, "retry_task", "one", patience_seconds=0.5)
    assert 0.2 < time.monotonic() - start < 5


@pytest.mark.parametrize("body", [b"<html>", b'"text"', b"{}", b"\xff"])
def test_what_is_no_api_is_named(ask: Ask, body: bytes):
    with (
        ScriptedApi(Reply(200, body)) as api,
        pytest.raises(Unavailable, match="is no API of Celeriac; check the addr"),
    ):
        ask(api, "show_task", "one")


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[]", b'{"title": 5}'])
def test_a_refusal_of_a_proxy_is_an_error_too(ask: Ask, body: bytes):
    with ScriptedApi(Reply(413, body)) as api, pytest.raises(ApiError, match="413 Request Entity Too Large") as caught:
        ask(api, "show_task", "one")
    assert caught.value.problem is None


def page(cursor: str | None, *ids: str) -> Reply:
    act = {"at": "", "who": "", "what": "", "target": "", "parameters": {}, "status": None, "client": ""}
    return Reply(200, {"items": [{"id": each, **act} for each in ids], "cursor": cursor})


def test_a_list_is_gone_through_page_after_page(ask: Ask):
    with ScriptedApi(page("5", "9", "5"), page("3"), page(None, "1")) as api:
        found = ask(api, "each", calls.list_acts(limit=2))
    assert [act.id for act in found] == ["9", "5", "1"]
    asked = [httpx.URL(each.path).params for each in api.asked]
    assert [dict(params) for params in asked] == [
        {"limit": "2"},
        {"limit": "2", "cursor": "5"},
        {"limit": "2", "cursor": "3"},
    ]


def test_cancelling_by_a_filter_goes_on_where_the_answer_before_has_ended(ask: Ask):
    replies = [Reply(200, {"cancelled": 1000, "cursor": "5:a"}), Reply(200, {"cancelled": 7, "cursor": None})]
    with ScriptedApi(*replies) as api:
        parts = ask(api, "pages", calls.cancel_tasks(queue="default"))
    assert sum(part.cancelled for part in parts) == 1007
    first = {"queue": "default", "all": False}
    assert [each.body for each in api.asked] == [first, {**first, "cursor": "5:a"}]


def test_what_an_unhealthy_platform_says_is_no_error(ask: Ask):
    checks = {"database": "away", "redis": "ok", "celery_worker": "no active workers"}
    with ScriptedApi(Reply(503, {"status": "unhealthy", "checks": checks})) as api:
        assert ask(api, "health").status == "unhealthy"
    assert len(api.asked) == 1


def test_a_newer_api_may_answer_more_than_the_client_knows(ask: Ask):
    with ScriptedApi(Reply(202, {**SUBMITTED.body, "news": 1})) as api:
        assert ask(api, "submit_task", "examples.add").task_id == "one"


def test_ids_are_escaped(ask: Ask):
    with ScriptedApi(problem(404, "not-found")) as api, pytest.raises(ApiError):
        ask(api, "show_task", "a/../b?c#d é\0")
    assert api.asked[0].path == "/tasks/a%2F..%2Fb%3Fc%23d%20%C3%A9%00"
