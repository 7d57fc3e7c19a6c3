"""What every pod has: templates/_pod.tpl."""

from __future__ import annotations

import pytest

from tests.chart.pod_security import violations
from tests.chart.rendering import Renderer, containers, environment, is_workload, pod_spec, pod_template
from tests.chart.scenarios import EVERYTHING, EXISTING_SECRETS, SCENARIOS

#: The containers that run our images with our settings.
OURS = {"api", "worker", "beat", "migrate", "wait-for-migration"}


@pytest.fixture(params=SCENARIOS)
def pods(request: pytest.FixtureRequest, render: Renderer):
    """The pods of a whole platform, by what runs them."""
    return render(SCENARIOS[request.param]).pods()


def test_a_namespace_that_enforces_the_restricted_standard_takes_every_pod(pods):
    assert {name: violations(spec) for name, spec in pods.items()} == {key: [] for key in pods}


def test_the_check_of_the_restricted_standard_sees_a_pod_without_any_settings():
    spec = {"containers": [{"name": "c"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "hostPID": True}
    assert violations(spec) == [
        "hostPID",
        "runAsNonRoot is not true",
        "seccompProfile",
        "volume v: {'hostPath'}",
        "c: allowPrivilegeEscalation is not false",
        "c: capabilities are not dropped",
        "c: seccompProfile",
    ]


def test_every_pod_runs_as_a_number_on_a_read_only_root_and_no_container_gets_a_token_unasked(pods):
    for spec in pods.values():
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["runAsGroup"] > 0
        assert spec["securityContext"]["fsGroup"] > 0
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in containers(spec):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("scales", [True, False])
def test_one_container_has_a_token_of_the_cluster_where_the_api_scales_and_otherwise_none(
    render: Renderer, scales: bool
):
    found = {
        f"{name} {container['name']}": mount
        for name, spec in render({"api": {"scaling": {"enabled": scales}}}).pods().items()
        for volume in spec.get("volumes", [])
        if "projected" in volume
        for container in containers(spec)
        for mount in container["volumeMounts"]
        if mount["name"] == volume["name"]
    }
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounted = {"name": "account", "mountPath": path, "readOnly": True}
    assert found == ({"Deployment r-api api": mounted} if scales else {})


def test_every_mount_has_its_volume_and_every_folder_a_limit(pods):
    for name, spec in pods.items():
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
        assert mounted - volumes == ({"data"} if name.startswith("StatefulSet") else set())
        assert volumes <= mounted
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


def test_every_container_requests_memory_and_limits_it(pods):
    for spec in pods.values():
        for container in containers(spec):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


def test_no_container_has_a_variable_twice(pods):
    for spec in pods.values():
        for container in containers(spec):
            if "env" in container:
                environment(container)


def test_our_pods_write_to_tmp_only(render: Renderer):
    for name, container in _ours(render({})):
        assert environment(container)["HOME"] == "/tmp", name
        assert environment(container)["CELERIAC_DATA_DIR"] == "/tmp/celeriac", name
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], name


def test_every_component_knows_all_queues_and_workloads_and_the_time_zone(render: Renderer):
    for name, container in _ours(render(EVERYTHING)):
        env = environment(container | {"env": [each for each in container["env"] if "valueFrom" not in each]})
        assert env["CELERIAC_QUEUES"] == "data_sync,default,email,on_hold,scaled,scheduled", name
        assert env["CELERIAC_WORKLOADS"] == "workloads.data_sync,my_company.billing", name
        assert env["CELERIAC_TIMEZONE"] == "Asia/Shanghai", name
        assert env["CELERIAC_WORKER__TIME_LIMIT"] == "1800", name
        assert container["envFrom"] == [{"secretRef": {"name": "smtp"}}], name


def test_without_workloads_all_that_are_installed_load(render: Renderer):
    for _, container in _ours(render({})):
        assert "CELERIAC_WORKLOADS" not in environment(container)


def test_only_who_needs_a_secret_gets_it(render: Renderer):
    given: dict[str, set] = {}
    for _, container in _ours(render(EXISTING_SECRETS)):
        secrets = {value for value in environment(container).values() if isinstance(value, tuple)}
        given.setdefault(container["name"], set()).update(secrets)
    database, redis = ("my-database", "database-url"), ("my-redis", "redis-url")
    keys = {("my-keys", "AWS_ACCESS_KEY_ID"), ("my-keys", "AWS_SECRET_ACCESS_KEY")}
    assert given == {
        "api": {database, redis, ("my-api", "token"), *keys},
        "worker": {database, redis, *keys},
        "beat": {database, redis},
        "migrate": {database},
        "wait-for-migration": {database},
    }


def test_files_in_s3_are_reached_by_api_and_workers(render: Renderer):
    rendered = render(EXISTING_SECRETS)
    for name in ("r-api", "r-worker-data-sync"):
        env = environment(pod_spec(rendered.get("Deployment", name))["containers"][0])
        assert env["CELERIAC_FILE_STORE"] == "s3://bucket/prefix"
        assert env["AWS_ENDPOINT_URL"] == "http://minio:9000"
        assert env["AWS_REGION"] == "eu-central-1"


def test_files_lie_in_the_database_by_default(render: Renderer):
    env = environment(pod_spec(render({}).get("Deployment", "r-worker-data-sync"))["containers"][0])
    assert env["CELERIAC_FILE_STORE"] == "db:"
    assert not [name for name in env if name.startswith("AWS_")]


def test_a_variable_of_a_queue_wins_over_extra_env_which_wins_over_settings(render: Renderer):
    values = {
        "settings": {"CELERIAC_A": "settings", "CELERIAC_B": "settings", "CELERIAC_C": "settings"},
        "extraEnv": [{"name": "CELERIAC_B", "value": "extra"}, {"name": "CELERIAC_C", "value": "extra"}],
        "queues": {"default": {"env": {"CELERIAC_C": "queue"}}},
    }
    rendered = render(values)
    env = environment(pod_spec(rendered.get("Deployment", "r-worker-default"))["containers"][0])
    assert (env["CELERIAC_A"], env["CELERIAC_B"], env["CELERIAC_C"]) == ("settings", "extra", "queue")
    env = environment(pod_spec(rendered.get("Deployment", "r-worker-scheduled"))["containers"][0])
    assert (env["CELERIAC_A"], env["CELERIAC_B"], env["CELERIAC_C"]) == ("settings", "extra", "extra")


def test_pods_run_where_the_values_say(render: Renderer):
    for name, spec in render(EVERYTHING).pods().items():
        assert spec["nodeSelector"] == {"disk": "fast"}, name
        assert spec["tolerations"][0]["key"] == "jobs", name
        assert "nodeAffinity" in spec["affinity"], name
        assert spec["imagePullSecrets"] == [{"name": "registry"}], name


def test_annotations_and_labels_of_the_user_reach_every_pod(render: Renderer):
    for each in render(EVERYTHING):
        if is_workload(each) and each["kind"] != "Pod":
            metadata = pod_template(each)["metadata"]
            assert metadata["annotations"]["example.com/note"] == "yes"
            assert metadata["labels"]["team"] == "jobs"


def test_what_serves_is_probed_and_what_ends_is_not(render: Renderer):
    for name, spec in render({}).pods().items():
        (container,) = spec["containers"]
        probes = {key for key in container if key.endswith("Probe")}
        if name.startswith(("Job", "Pod")):
            assert not probes
        else:
            assert {"readinessProbe", "livenessProbe"} <= probes, name


def test_nothing_starts_before_the_migration_has_run(render: Renderer):
    for each in render({}):
        if each["kind"] == "Deployment":
            (waits,) = pod_spec(each)["initContainers"]
            assert waits["args"] == ["migrate", "--wait", "--timeout", "300"]
            assert waits["image"] == pod_spec(each)["containers"][0]["image"]


def test_tags_default_to_the_app_version_and_may_be_numbers(render: Renderer):
    assert pod_spec(render({}).get("Deployment", "r-api"))["containers"][0]["image"] == "celeriac/api:0.1.0"
    rendered = render({"images": {"redis": {"repository": "registry.example/redis", "tag": 7}}})
    assert pod_spec(rendered.get("StatefulSet", "r-redis"))["containers"][0]["image"] == "registry.example/redis:7"


def _ours(rendered):
    for name, spec in rendered.pods().items():
        for container in containers(spec):
            if container["name"] in OURS:
                yield name, container


def test_further_volumes_reach_every_container_of_ours(render: Renderer):
    volume = {"name": "own", "configMap": {"name": "my-workload"}}
    mount = {"name": "own", "mountPath": "/app"}
    values = {"extraVolumes": [volume], "extraVolumeMounts": [mount]}
    seen = set()
    for spec in render(values).pods().values():
        for container in containers(spec):
            if container["name"] in OURS:
                assert volume in spec["volumes"]
                assert mount in container["volumeMounts"], container["name"]
                seen.add(container["name"])
    assert seen == OURS
