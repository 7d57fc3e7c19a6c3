"""How checks judge what they see, without a platform: reports, the load, outages, and what kubectl is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from celeriac.checks import outage
from celeriac.checks.deployment import CheckFailed, Deployment
from celeriac.checks.kubernetes import Kubernetes, Release
from celeriac.checks.load import submit_at_once
from celeriac.checks.report import Outcome, Report, Row
from celeriac.checks.run import Check, Measured, Run, Sizes, run_checks
from celeriac.checks.target import Nothing, NotPossible, Part, stopped
from celeriac.client import ApiError, Client
from celeriac.contract.health import Checks, HealthView
from celeriac.contract.tasks import SubmitView, TaskState, TaskView
from celeriac.errors import ConfigurationError, Unavailable


def report_of(*outcomes: Outcome) -> Report:
    rows = tuple(Row("status", "status", outcome, "1 | 2", "3") for outcome in outcomes)
    return Report("2026-01-31 12:00+00:00", "Ada", "local", ("0.1.0",), "Redis 8.2.1", 2, rows)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        ([Outcome.PASS, Outcome.SKIPPED], 0),
        ([Outcome.PASS, Outcome.NOT_RUN], 3),
        ([Outcome.NOT_RUN, Outcome.FAIL, Outcome.PASS], 1),
    ],
)
def test_a_report_passes_only_if_nothing_failed_and_nothing_was_left_undone(outcomes: list[Outcome], code: int):
    report = report_of(*outcomes)
    assert report.exit_code == code
    assert report.as_json()["passed"] == (code == 0)


def test_a_page_has_a_line_for_each_row():
    page = report_of(Outcome.PASS).as_markdown()
    assert "| workers | Celeriac 0.1.0 |" in page
    assert "| status | pass | 1 \\| 2 | 3 |" in page


def test_a_check_that_raises_is_no_success():
    def raising(error: Exception) -> Callable[[Run], Measured]:
        def measure(_run: Run) -> Measured:
            raise error

        return measure

    checks = [
        Check("a", "a", "limit", raising(NotPossible("why not"))),
        Check("b", "b", "limit", raising(ApiError(500, "500 Internal error"))),
        Check("c", "c", "limit", lambda _run: Measured(passed=False, figure="too slow")),
        Check("d", "d", "limit", raising(AssertionError("was not skipped"))),
        Check("e", "e", "limit", lambda _run: Measured(passed=True, figure="fast")),
    ]
    told: list[str] = []
    run = run_against(cast("Client", None))
    report = run_checks(run, checks, skipped={"d"}, tester="Ada", tell=told.append)
    assert [(row.outcome, row.figure) for row in report.rows] == [
        (Outcome.NOT_RUN, "why not"),
        (Outcome.FAIL, "500 Internal error"),
        (Outcome.FAIL, "too slow"),
        (Outcome.SKIPPED, "left out by --skip"),
        (Outcome.PASS, "fast"),
    ]
    assert {row.limit for row in report.rows} == {"limit"}
    assert "e: pass, fast" in told


@pytest.fixture
def api() -> Iterator[ThreadingHTTPServer]:
    """Takes 50 ms for a submit; refuses the tenth with 429 and cuts the connection of the twentieth."""
    lock, numbers = threading.Lock(), iter(range(1, 10_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body == {"name": "examples.add", "args": [1, 2]}
            assert (self.path, self.headers["Authorization"]) == ("/prefix/tasks", "Bearer secret")
            with lock:
                number = next(numbers)
            time.sleep(0.05)
            if number == 20:
                self.close_connection = True
                return
            content = json.dumps({"task_id": str(number)}).encode()
            self.send_response(429 if number == 10 else 202)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")
            self.close_connection = True

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def submits(port: int, clients: int, requests: int) -> Any:
    url = f"http://127.0.0.1:{port}/prefix/"
    return submit_at_once(url, "secret", name="examples.add", args=[1, 2], clients=clients, requests=requests)


def test_the_load_counts_every_submit_and_times_each(api: ThreadingHTTPServer):
    load = submits(api.server_port, clients=5, requests=30)
    assert len(set(load.task_ids)) == 28
    assert load.failures["429 Too Many Requests"] == 1
    assert load.failures.total() == 2
    assert any("no answer" in reason for reason in load.failures)
    assert len(load.seconds) == 29
    assert 50 <= load.mean_ms <= load.p95_ms * 1.01


def test_the_load_of_an_api_that_is_gone_is_all_failures(api: ThreadingHTTPServer):
    api.server_close()
    load = submits(api.server_port, clients=3, requests=12)
    assert (load.task_ids, load.seconds) == ([], [])
    assert load.failures.total() == 12
    assert load.p95_ms == 0


def test_what_is_no_api_is_named(api: ThreadingHTTPServer):
    with (
        Client(f"http://127.0.0.1:{api.server_port}", "secret") as client,
        pytest.raises(Unavailable, match="is no API of Celeriac; check the address"),
    ):
        Deployment.find(client)


class AwayApi:
    """The client of an API that gives submits a certain mode while Redis is away, or refuses them."""

    def __init__(self, answer: Callable[[], str], *, loses: bool = False) -> None:
        self.away = False
        self._answer = answer
        self._loses = loses
        self._count = 0
        self._lost: set[str] = set()

    def submit_task(self, _name: str, *, args: list[float]) -> SubmitView:
        assert args
        self._count += 1
        task_id = str(self._count)
        mode = self._answer() if self.away else "celery"
        if self.away and self._loses:
            self._lost.add(task_id)
        return SubmitView(task_id=task_id, status_url=f"/tasks/{task_id}", mode=mode)

    def show_task(self, task_id: str) -> TaskView:
        if task_id in self._lost:
            raise ApiError(404, f"404 Not found: no task {task_id}")
        return TaskView(
            task_id=task_id,
            name="examples.add",
            queue="default",
            priority=5,
            state=TaskState.SUCCESS,
            status="finished",
            ready=True,
            successful=True,
            mode="celery",
            submitted_at="2026-01-31T12:00:00.000+00:00",
            retries=0,
        )

    def health(self) -> HealthView:
        redis = "away (ConnectionError)" if self.away else "ok"
        return HealthView(status="degraded", checks=Checks(database="ok", redis=redis, celery_worker="ok (1 workers)"))


class Switch(Nothing):
    """Takes Redis away from an `AwayApi`."""

    def __init__(self, client: AwayApi) -> None:
        self._client = client

    def stop(self, part: Part) -> None:
        assert part is Part.REDIS
        self._client.away = True

    def start(self, part: Part) -> None:
        assert part is Part.REDIS
        self._client.away = False


def run_against(client: Any) -> Run:
    deployment = Deployment(client, "default", 2, ("0.1.0",), "Redis 8.2.1")
    return Run(deployment, Switch(client), "http://api", "secret", Sizes(100, 100, 1, 0))


def raises(error: Exception) -> Callable[[], str]:
    def answer() -> str:
        raise error

    return answer


def slowly() -> str:
    time.sleep(0.3)
    return "held"


REFUSED = ApiError(503, "503 Unavailable: the task was not accepted, for Redis cannot be reached: refused")


@pytest.mark.parametrize(
    ("answer", "passed", "says"),
    [
        (raises(REFUSED), True, "this API refuses tasks and runs none itself"),
        (lambda: "in_process", True, "accepts tasks while Redis is away"),
        (lambda: "held", True, "accepts tasks while Redis is away"),
        (lambda: "celery", False, "none lost"),
        (raises(ApiError(503, "503 Service Unavailable")), False, "none lost"),
        (raises(ApiError(500, "500 Internal error: Redis")), False, "none lost"),
        (raises(Unavailable("the API does not answer")), False, "none lost"),
        (slowly, False, "accepts tasks while Redis is away"),
    ],
)
def test_while_redis_is_away_submits_are_judged_by_what_they_answer(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], str], passed: bool, says: str
):
    monkeypatch.setattr(outage, "_AWAY_SECONDS", 0.5)
    monkeypatch.setattr(outage, "ANSWER_SECONDS", 0.25)
    measured = outage.measure(run_against(AwayApi(answer)))
    assert measured.passed == passed, measured
    assert says in measured.note


def test_a_task_that_was_accepted_and_lost_while_redis_was_away_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outage, "_AWAY_SECONDS", 0.3)
    with pytest.raises(CheckFailed, match="an accepted task is lost: 404 Not found"):
        outage.measure(run_against(AwayApi(lambda: "held", loses=True)))


SELECTOR = "app.kubernetes.io/instance=demo,app.kubernetes.io/component=worker"
KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
arguments = sys.argv[3:]
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
if arguments[0] == "get":
    print((folder / f"{arguments[1]}.json").read_text() if (folder / f"{arguments[1]}.json").exists() else "")
if arguments[0] == "delete":
    for pods in folder.glob("pods.json"):
        pods.write_text(pods.read_text().replace("killed", "new"))
if arguments[0] == "scale" and "forbidden" in arguments[1]:
    sys.exit("deployments.apps is forbidden")
"""


def workload(kind: str, name: str, component: str, replicas: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": component}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}}
    return {"kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a kubectl that gives what its JSON files hold, and notes how it is called."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    running = {"metadata": {"uid": "killed"}, "status": {"containerStatuses": [{"state": {"running": {}}}]}}
    (tmp_path / "pods.json").write_text(json.dumps({"items": [running, running]}))
    return tmp_path


def calls(cluster: Path) -> list[str]:
    return [call for call in (cluster / "calls").read_text().splitlines() if not call.startswith("get")]


def test_workers_are_killed_and_get_their_replicas_back(cluster: Path):
    found = workload("Deployment", "demo-worker-data-sync", "worker", 2)
    (cluster / "deployment.json").write_text(json.dumps(found))
    with stopped(Kubernetes(Release("demo", "jobs"), "data_sync"), Part.WORKER):
        assert calls(cluster) == [
            f"delete pod --selector={SELECTOR} --grace-period=1 --wait=false",
            "scale deployment/demo-worker-data-sync --replicas=0",
        ]
    assert calls(cluster)[2:] == ["scale deployment/demo-worker-data-sync --replicas=2"]


def test_the_stack_leaves_the_database_alone_and_never_has_two_redis_on_one_volume(cluster: Path):
    found = [
        workload("Deployment", "demo-api", "api", 1),
        workload("Deployment", "demo-beat", "beat", 0),
        workload("StatefulSet", "demo-redis", "redis", 1),
        workload("StatefulSet", "demo-postgresql", "postgresql", 1),
    ]
    (cluster / "deployment,statefulset.json").write_text(json.dumps({"items": found}))
    with stopped(Kubernetes(Release("demo", "jobs"), "default"), Part.STACK):
        pass
    deletes = [call.partition("component=")[2] for call in calls(cluster) if call.startswith("delete")]
    assert deletes == ["api --grace-period=1 --wait=false", "redis --grace-period=1 --wait=false"]
    scales = [call for call in calls(cluster) if call.startswith("scale")]
    assert scales == [
        "scale deployment/demo-api statefulset/demo-redis --replicas=0",
        "scale deployment/demo-api --replicas=1",
        "scale statefulset/demo-redis --replicas=1",
    ]


def test_an_external_redis_cannot_be_stopped_and_nothing_is_started_instead(cluster: Path):
    with (
        pytest.raises(NotPossible, match="release demo runs no Redis in namespace jobs"),
        stopped(Kubernetes(Release("demo", "jobs"), "default"), Part.REDIS),
    ):
        pass
    assert calls(cluster) == []


def test_what_kubectl_refuses_is_the_reason_of_a_failure(cluster: Path):
    (cluster / "deployment.json").write_text(json.dumps(workload("Deployment", "forbidden", "worker", 1)))
    with (
        pytest.raises(CheckFailed, match="kubectl scale deployment/forbidden"),
        stopped(Kubernetes(Release("demo", "jobs"), "default"), Part.WORKER),
    ):
        pass


def test_a_release_that_is_not_there_is_named(cluster: Path, monkeypatch: pytest.MonkeyPatch):
    release = Release("demo", "jobs")
    with pytest.raises(ConfigurationError, match="--token: there is no Secret demo-api in namespace jobs"):
        release.token()
    with pytest.raises(ConfigurationError, match="--url: there is no Service demo-api"), release.forwarded():
        pass
    monkeypatch.setenv("PATH", str(cluster / "nothing"))
    with pytest.raises(ConfigurationError, match="kubectl cannot be run"):
        release.token()
