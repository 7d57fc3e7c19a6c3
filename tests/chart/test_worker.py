"""Workers: templates/worker."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Renderer, environment, pod_spec
from tests.chart.scenarios import EVERYTHING


def test_a_queue_of_ones_own_is_one_entry_of_the_values(render: Renderer):
    rendered = render({"queues": {"order_export": {}}})
    assert "r-worker-order-export" in rendered.names("Deployment")
    (container,) = _pod(rendered, "order-export")["containers"]
    assert container["args"] == ["worker", "--queue", "order_export", "--concurrency", "2", "--pool", "prefork"]
    for name in rendered.names("Deployment"):
        env = environment(pod_spec(rendered.get("Deployment", name))["containers"][0])
        assert env["CELERIAC_QUEUES"] == "data_sync,default,order_export,scheduled"


def test_a_queue_set_to_null_has_no_worker(render: Renderer):
    assert "r-worker-scheduled" not in render({"queues": {"scheduled": None}}).names("Deployment")


@pytest.mark.parametrize("replicas", [0, 1, 3])
def test_a_number_of_replicas_is_written(render: Renderer, replicas: int):
    rendered = render({"queues": {"default": {"replicas": replicas}}})
    assert rendered.get("Deployment", "r-worker-default")["spec"]["replicas"] == replicas


@pytest.mark.parametrize("queue", ["default", "of_ones_own"])
def test_replicas_of_null_leave_the_field_out(render: Renderer, queue: str):
    rendered = render({"queues": {queue: {"replicas": None}}})
    name = f"r-worker-{queue.replace('_', '-')}"
    assert "replicas" not in rendered.get("Deployment", name)["spec"]
    assert rendered.get("Deployment", "r-worker-scheduled")["spec"]["replicas"] == 1


def test_replicas_of_null_in_the_defaults_leave_the_field_out_where_a_queue_has_no_number(render: Renderer):
    rendered = render({"workerDefaults": {"replicas": None}, "queues": {"default": {"replicas": 0}}})
    assert rendered.get("Deployment", "r-worker-default")["spec"]["replicas"] == 0
    assert "replicas" not in rendered.get("Deployment", "r-worker-data-sync")["spec"]


def test_what_a_queue_gives_goes_over_the_defaults_key_by_key_and_touches_no_other_queue(render: Renderer):
    values = {
        "workerDefaults": {"env": {"A": "all", "B": "all"}, "terminationGracePeriodSeconds": 60},
        "queues": {
            "data_sync": {
                "env": {"B": "mine"},
                "resources": {"limits": {"memory": "4Gi"}},
                "terminationGracePeriodSeconds": 600,
                "pool": "threads",
                "image": {"tag": "big"},
            }
        },
    }
    rendered = render(values)
    pod = _pod(rendered, "data-sync")
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] == 600
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}}
    assert container["args"][-1] == "threads"
    assert container["image"] == pod["initContainers"][0]["image"] == "celeriac/worker:big"
    assert (environment(container)["A"], environment(container)["B"]) == ("all", "mine")
    # Rendered later: a map that is changed in place would show here.
    other = _pod(rendered, "default")
    assert other["terminationGracePeriodSeconds"] == 60
    assert other["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert other["containers"][0]["image"] == "celeriac/worker:0.1.0"
    assert environment(other["containers"][0])["B"] == "all"


def test_an_update_starts_a_new_worker_before_it_stops_an_old_one(render: Renderer):
    strategy = render({}).get("Deployment", "r-worker-default")["spec"]["strategy"]
    assert strategy == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_probes_ask_the_probe_server(render: Renderer):
    (container,) = _pod(render({}), "default")["containers"]
    assert environment(container)["CELERIAC_PROBE__HOST"] == "0.0.0.0"
    assert environment(container)["CELERIAC_PROBE__PORT"] == "8001"
    assert container["ports"] == [{"name": "http", "containerPort": 8001}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health/live", "port": "http"}
    # A restart costs what runs: two minutes of silence before it.
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] == 120


def test_pods_of_a_queue_are_found_by_its_label(render: Renderer):
    labels = render(EVERYTHING).get("Deployment", "r-worker-on-hold")["spec"]["template"]["metadata"]["labels"]
    assert labels["celeriac/queue"] == "on_hold"


def _pod(rendered, queue):
    return pod_spec(rendered.get("Deployment", f"r-worker-{queue}"))
