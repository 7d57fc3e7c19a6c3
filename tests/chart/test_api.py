"""The API: templates/api."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Renderer, environment, pod_spec
from tests.chart.scenarios import EVERYTHING, EXISTING_SECRETS


def test_the_service_leads_to_the_api(render: Renderer):
    rendered = render({})
    (port,) = rendered.get("Service", "r-api")["spec"]["ports"]
    assert port == {"name": "http", "port": 8000, "targetPort": "http"}
    (container,) = pod_spec(rendered.get("Deployment", "r-api"))["containers"]
    assert container["args"] == ["api"]
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    assert environment(container)["CELERIAC_API__HOST"] == "0.0.0.0"
    assert environment(container)["CELERIAC_API__PORT"] == "8000"


def test_type_and_port_of_the_service_are_values(render: Renderer):
    spec = render(EVERYTHING).get("Service", "r-api")["spec"]
    assert (spec["type"], spec["ports"][0]["port"]) == ("LoadBalancer", 80)


def test_an_update_takes_no_api_away_before_another_is_ready(render: Renderer):
    deployment = render({}).get("Deployment", "r-api")
    assert deployment["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    (container,) = pod_spec(deployment)["containers"]
    assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "5"]}}


def test_probes_look_at_no_dependency_to_tell_life(render: Renderer):
    (container,) = pod_spec(render({}).get("Deployment", "r-api"))["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health/live", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}


@pytest.mark.parametrize("replicas", [0, 3])
def test_replicas_are_written(render: Renderer, replicas: int):
    assert render({"api": {"replicas": replicas}}).get("Deployment", "r-api")["spec"]["replicas"] == replicas


def test_replicas_of_null_leave_the_field_out(render: Renderer):
    assert "replicas" not in render({"api": {"replicas": None}}).get("Deployment", "r-api")["spec"]


def test_helm_test_asks_for_the_health_of_this_release(render: Renderer):
    pod = render(EVERYTHING).get("Pod", "r-test-api")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    # Helm does not remove the pods of hooks when it uninstalls.
    assert "hook-succeeded" in pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert 'url = "http://r-api:80/health"' in pod["spec"]["containers"][0]["args"][0]
    compile(pod["spec"]["containers"][0]["args"][0], "test", "exec")


def test_the_api_may_scale_the_worker_deployments_of_its_release_and_nothing_else(render: Renderer):
    rendered = render({"queues": {"order_export": {}, "scheduled": None}})
    workers = ["r-worker-data-sync", "r-worker-default", "r-worker-order-export"]
    assert set(workers) < set(rendered.names("Deployment"))
    (name,) = rendered.names("Role")
    assert rendered.get("Role", name)["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": workers, "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": workers, "verbs": ["patch"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
    ]
    binding = rendered.get("RoleBinding", "r-api")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "r-api", "namespace": "n"}]
    pod = pod_spec(rendered.get("Deployment", "r-api"))
    assert pod["serviceAccountName"] == "r-api"
    env = environment(pod["containers"][0])
    assert (env["CELERIAC_KUBERNETES__RELEASE"], env["CELERIAC_SCALING__ENABLED"]) == ("r", "true")
    assert env["CELERIAC_SCALING__MAX_REPLICAS"] == "50"
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "account")
    token, authority, namespace = volume["projected"]["sources"]
    assert token == {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    assert authority["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"


def test_without_scaling_there_is_no_role(render: Renderer):
    rendered = render({"api": {"scaling": {"enabled": False, "maxReplicas": 7}}})
    assert rendered.names("Role") == rendered.names("RoleBinding") == []
    pod = pod_spec(rendered.get("Deployment", "r-api"))
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    env = environment(pod["containers"][0])
    assert (env["CELERIAC_SCALING__ENABLED"], env["CELERIAC_SCALING__MAX_REPLICAS"]) == ("false", "7")


def test_only_the_api_knows_how_to_scale(render: Renderer):
    for name, spec in render({}).pods().items():
        for container in spec["containers"]:
            scales = [each for each in container.get("env", []) if "SCALING" in each["name"]]
            assert bool(scales) is (name == "Deployment r-api"), name


def test_a_role_of_the_cloud_reaches_api_and_workers(render: Renderer):
    rendered = render(EVERYTHING)
    for name in ("r-api", "r-worker"):
        account = rendered.get("ServiceAccount", name)
        assert account["metadata"]["annotations"] == {"example.com/role": "files"}
        assert account["automountServiceAccountToken"] is False


def test_the_token_comes_from_the_secret_that_the_values_name(render: Renderer):
    for values, secret in (({}, "r-api"), (EXISTING_SECRETS, "my-api")):
        (container,) = pod_spec(render(values).get("Deployment", "r-api"))["containers"]
        assert environment(container)["CELERIAC_API_TOKEN"] == (secret, "token")
