"""Scaling by HTTP, against a cluster's API that is played: what is asked of it, and what each refusal becomes.

What a real cluster makes of it is in `tests/e2e`.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from celeriac import CeleriacApp
from celeriac.database.migrate import Migrations
from celeriac_api.app import create_api
from tests.api import Http
from tests.certificates import Authority
from tests.servers import free_port

TOKEN = "a-token"
MakeApp = Callable[..., CeleriacApp]

DEPLOYMENTS = "/apis/apps/v1/namespaces/ns/deployments"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers"


@dataclass
class Cluster:
    """A cluster's API that knows one Deployment and some autoscalers, and checks who asks."""

    url: str = ""
    account: Path = Path()
    labels: dict[str, str] = field(
        default_factory=lambda: {
            "app.kubernetes.io/instance": "r",
            "app.kubernetes.io/component": "worker",
            "celeriac/queue": "data_sync",
        }
    )
    replicas: int = 1
    autoscalers: list[dict[str, Any]] = field(default_factory=list)
    #: Answered in place of what it would: by method and path, status and message.
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    token: str = "the-account's-token"

    def answer(self, method: str, path: str, body: Any, headers: Any) -> tuple[int, Any]:
        """What it answers to a request."""
        self.asked.append(f"{method} {path}")
        if headers["Authorization"] != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if refusal := self.refusals.get(f"{method} {path}"):
            return refusal[0], {"kind": "Status", "message": refusal[1]}
        if (method, path) == ("GET", AUTOSCALERS):
            return 200, {"items": self.autoscalers}
        if (method, path) == ("GET", f"{DEPLOYMENTS}/r-worker-data-sync"):
            return 200, {"metadata": {"labels": self.labels}, "spec": {"replicas": self.replicas}}
        if (method, path) == ("PATCH", f"{DEPLOYMENTS}/r-worker-data-sync/scale"):
            assert headers["Content-Type"] == "application/merge-patch+json"
            self.replicas = body["spec"]["replicas"]
            return 200, {"kind": "Scale", "spec": {"replicas": self.replicas} if self.replicas else {}}
        return 404, {"kind": "Status", "message": f"{path} not found"}

    def hold(self, kind: str, name: str, **labels: str) -> None:
        """Make an autoscaler of something."""
        target = {"apiVersion": "apps/v1", "kind": kind, "name": name}
        self.autoscalers.append({"metadata": {"name": "scaler", "labels": labels}, "spec": {"scaleTargetRef": target}})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(account=tmp_path / "account")
    cluster.account.mkdir()
    authority = Authority(cluster.account)
    authority.certificate.rename(cluster.account / "ca.crt")
    (cluster.account / "token").write_text(f"{cluster.token}\n")
    (cluster.account / "namespace").write_text("ns")

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = cluster.answer(self.command, self.path, json.loads(body or "null"), self.headers)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = respond  # noqa: N815 - its base looks for these

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    cluster.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connect(cluster: Cluster, redis_url: str, sqlite_url: str, make_app: MakeApp) -> Callable[..., Http]:
    """Makes a client of an API in that cluster."""

    def connect(*, enabled: bool = True, max_replicas: int = 10, **kubernetes: Any) -> Http:
        app = make_app(
            redis_url=redis_url,
            database_url=sqlite_url,
            api_token=TOKEN,
            workloads=("workloads.examples",),
            queues=("data_sync",),
            kubernetes={"api_url": cluster.url, "account_dir": cluster.account, "release": "r"} | kubernetes,
            scaling={"enabled": enabled, "max_replicas": max_replicas},
        )
        return Http(create_api(app), TOKEN)

    return connect


@pytest.fixture
def http(connect: Callable[..., Http]) -> Http:
    return connect()


def scale(http: Http, replicas: Any, queue: str = "data_sync") -> Any:
    return http.post(f"/admin/queues/{queue}/scale", json={"replicas": replicas})


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["detail"])


def test_a_queue_is_scaled_up_and_down_to_nothing(http: Http, cluster: Cluster):
    for before, replicas in ((1, 3), (3, 0), (0, 10)):
        answer = scale(http, replicas)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "queue": "data_sync",
            "deployment": "r-worker-data-sync",
            "replicas": replicas,
            "replicas_before": before,
        }
        assert cluster.replicas == replicas
    assert cluster.asked[:3] == [
        f"GET {DEPLOYMENTS}/r-worker-data-sync",
        f"GET {AUTOSCALERS}",
        f"PATCH {DEPLOYMENTS}/r-worker-data-sync/scale",
    ]


def test_a_token_that_is_replaced_is_read_anew(http: Http, cluster: Cluster):
    assert scale(http, 2).status_code == 200
    cluster.token = "another"
    (cluster.account / "token").write_text("another")
    assert scale(http, 3).status_code == 200


@pytest.mark.parametrize("replicas", [-1, 11, 2**31, 1.5, "3", True, None])
def test_what_is_no_number_within_the_limits_is_refused(http: Http, cluster: Cluster, replicas: Any):
    assert refused(scale(http, replicas), 422).startswith("replicas: ")
    assert cluster.asked == []


def test_the_limit_says_what_sets_it(connect: Callable[..., Http]):
    detail = refused(scale(connect(max_replicas=2), 3), 422)
    assert detail == "replicas: a number from 0 to 2; CELERIAC_SCALING__MAX_REPLICAS sets the most (got 3)"


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({}, "HorizontalPodAutoscaler scaler decides"),
        (
            {"scaledobject.keda.sh/name": "r-worker-data-sync"},
            "HorizontalPodAutoscaler scaler of KEDA's ScaledObject r-worker-data-sync decides",
        ),
    ],
)
def test_what_an_autoscaler_owns_is_left_to_it(http: Http, cluster: Cluster, labels: dict[str, str], owner: str):
    cluster.hold("Deployment", "r-worker-data-sync", **labels)
    assert refused(scale(http, 3), 409).startswith(f"{owner} on the replicas of r-worker-data-sync")
    assert cluster.replicas == 1


def test_autoscalers_of_other_things_do_not_matter(http: Http, cluster: Cluster):
    cluster.hold("Deployment", "r-worker-default")
    cluster.hold("StatefulSet", "r-worker-data-sync")
    assert scale(http, 3).status_code == 200


@pytest.mark.parametrize("label", ["app.kubernetes.io/instance", "app.kubernetes.io/component", "celeriac/queue"])
def test_a_deployment_of_something_else_is_left_alone(http: Http, cluster: Cluster, label: str):
    cluster.labels[label] = "other"
    assert "does not belong to release r, by its labels" in refused(scale(http, 3), 409)
    assert cluster.replicas == 1


def test_a_queue_that_the_release_has_no_workers_of_is_refused(http: Http):
    assert refused(scale(http, 3, "default"), 409) == (
        "release r has no Deployment r-worker-default: queue default is not among the chart's `queues`"
    )


def test_where_scaling_is_switched_off_nothing_is_asked(connect: Callable[..., Http], cluster: Cluster):
    assert "scaling is switched off" in refused(scale(connect(enabled=False), 3), 409)
    assert cluster.asked == []


@pytest.mark.parametrize("kubernetes", [{"account_dir": Path("/nowhere")}, {"release": ""}])
def test_where_there_is_no_cluster_the_answer_says_so(connect: Callable[..., Http], kubernetes: dict[str, Any]):
    detail = refused(scale(connect(**kubernetes), 3), 409)
    assert "does not run in a cluster" in detail
    assert "celeriac worker --queue data_sync" in detail


@pytest.mark.parametrize("path", [f"GET {AUTOSCALERS}", f"PATCH {DEPLOYMENTS}/r-worker-data-sync/scale"])
def test_what_kubernetes_forbids_is_a_conflict_that_says_so(http: Http, cluster: Cluster, path: str):
    cluster.refusals[path] = 403, "system:serviceaccount:ns:r-api cannot do that"
    detail = refused(scale(http, 3), 409)
    assert detail == "Kubernetes refuses (403): system:serviceaccount:ns:r-api cannot do that"
    assert cluster.replicas == 1


def test_a_cluster_that_is_away_is_503(http: Http, cluster: Cluster, connect: Callable[..., Http]):
    cluster.refusals[f"GET {AUTOSCALERS}"] = 500, "etcd is away"
    assert "etcd is away" in refused(scale(http, 3), 503)
    assert "does not answer" in refused(scale(connect(api_url=f"https://localhost:{free_port()}"), 3), 503)


def test_a_cluster_of_another_authority_is_not_spoken_to(http: Http, cluster: Cluster, tmp_path: Path):
    Authority(tmp_path, "stranger").certificate.rename(cluster.account / "ca.crt")
    assert "certificate" in refused(scale(http, 3), 503)
    assert cluster.asked == []


def test_scaling_is_audited(http: Http, sqlite_url: str):
    Migrations(sqlite_url, []).upgrade()
    scale(http, 3)
    (act,) = http.get("/admin/audit").json()["items"]
    assert (act["what"], act["target"]) == ("POST /admin/queues/{queue}/scale", "/admin/queues/data_sync/scale")
    assert (act["parameters"], act["status"]) == ({"body": {"replicas": 3}}, 200)


def test_a_queue_that_is_not_there_is_404(http: Http):
    assert scale(http, 3, "nothing").status_code == 404
