"""Beat: templates/beat."""

from __future__ import annotations

from tests.chart.rendering import Renderer, environment, pod_spec


def test_no_update_runs_two_beats_at_a_time(render: Renderer):
    spec = render({}).get("Deployment", "r-beat")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_beat_can_be_switched_off(render: Renderer):
    assert render({"beat": {"replicas": 0}}).get("Deployment", "r-beat")["spec"]["replicas"] == 0


def test_probes_ask_the_probe_server(render: Renderer):
    (container,) = pod_spec(render({}).get("Deployment", "r-beat"))["containers"]
    assert container["args"] == ["beat"]
    assert environment(container)["CELERIAC_PROBE__HOST"] == "0.0.0.0"
    assert environment(container)["CELERIAC_PROBE__PORT"] == "8001"
    assert container["ports"] == [{"name": "http", "containerPort": 8001}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
