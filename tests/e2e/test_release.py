"""A release from install to uninstall, in a real cluster. The tests share it and run in this order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import ROOT, Release, build_image, run
from tests.platform import wait_for

HERE = Path(__file__).parent
#: What docs/reference/images.md states as the most.
IMAGE_BYTES = 270_000_000
ROWS = 5_000
S3_KEYS = ("AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing")
FRUIT = ("id,name\n" + "".join(f"{number},fruit {number}\n" for number in range(ROWS))).encode()


CPU_TARGET = {"type": "Utilization", "averageUtilization": 80}

#: An autoscaler of the workers of `default`. It finds no metrics, and does nothing.
AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "of-ones-own"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-worker-default"},
        "minReplicas": 2,
        "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": CPU_TARGET}}],
    },
}


def refusal(release: Release, status: int, **body: object) -> str:
    """What the API says against scaling queue `default`."""
    release.request("GET", "/health/live")  # through a forward that works
    with release.http() as client:
        answer = client.post("/admin/queues/default/scale", json=body)
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


@pytest.fixture(scope="module")
def synced(release: Release) -> tuple[str, int]:
    """A file that was uploaded and synced: its task and its id."""
    file_id = release.upload(FRUIT, platform="generic", key_columns="id")
    task = release.sync(file_id)
    assert task["state"] == "SUCCESS"
    return task["task_id"], file_id


def test_an_install_with_no_values_is_ready_under_the_strictest_pod_security(release: Release):
    release.wait_until_ready()
    health = release.health()
    assert health["status"] == "healthy"
    assert health["checks"]["workers"] == {"data_sync": 1, "default": 1, "scheduled": 1}
    for pod in release.pods():
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"], pod["metadata"]["name"]
    run("helm", "test", release.name, "--namespace", release.namespace)


def test_images_stay_below_their_stated_sizes(release: Release):
    nodes = json.loads(run("kubectl", "get", "nodes", "--output=json"))["items"]
    sizes = {
        name: image["sizeBytes"]
        for node in nodes
        for image in node["status"]["images"]
        for name in image["names"] or ()
    }
    for service in ("api", "worker", "beat"):
        found = [size for name, size in sizes.items() if f"celeriac/{service}:" in name]
        assert found, f"no node has {service}"
        assert max(found) < IMAGE_BYTES, service


def test_an_uploaded_file_becomes_rows(release: Release, synced: tuple[str, int]):
    task_id, file_id = synced
    result = release.request("GET", f"/api/data-sync/task-status/{task_id}")["result"]
    assert (result["rows"], result["inserted"], result["rejected"]) == (ROWS, ROWS, 0)
    assert len(release.rows(platform="generic", file_id=file_id)) == ROWS


def test_results_and_rows_survive_the_deletion_of_each_pod_in_turn(release: Release, synced: tuple[str, int]):
    task_id, file_id = synced
    names = [pod["metadata"]["name"] for pod in release.pods()]
    assert len(names) == 7
    for name in names:
        running = release.request("POST", "/tasks", json={"name": "examples.long_running", "args": [8, 16]})["task_id"]
        release.kubectl("delete", "pod", name)
        release.wait_until_ready()
        assert release.wait_for_task(running)["state"] == "SUCCESS", name
        assert release.request("GET", f"/tasks/{task_id}")["state"] == "SUCCESS", name
    assert len(release.rows(platform="generic", file_id=file_id)) == ROWS
    again = release.sync(file_id)
    assert again["result"]["unchanged"] == ROWS


def test_scaling_a_queue_changes_the_count_of_its_workers(release: Release):
    release.scale("data_sync", 3)
    health = release.wait_for_health(lambda checks: checks["workers"]["data_sync"] == 3, "three workers of data_sync")
    assert health["checks"]["celery_worker"] == "ok (5 workers)"
    for queue in ("data_sync", "default", "scheduled"):
        release.scale(queue, 0)
    health = release.wait_for_health(lambda checks: not any(checks["workers"].values()), "no worker")
    assert health["checks"]["celery_worker"] == "no active workers"
    assert health["status"] == "healthy", "zero workers with nothing waiting are fine"


def test_the_api_scales_a_queue_but_not_against_an_autoscaler(release: Release):
    scaled = release.request("POST", "/admin/queues/default/scale", json={"replicas": 2})
    assert (scaled["deployment"], scaled["replicas"], scaled["replicas_before"]) == ("demo-worker-default", 2, 0)
    assert release.replicas("default") == 2
    release.wait_for_health(lambda checks: checks["workers"]["default"] == 2, "two workers of default")
    assert "0 to 50" in refusal(release, 422, replicas=51)

    release.kubectl("apply", "--filename=-", stdin=json.dumps(AUTOSCALER))
    reason = "HorizontalPodAutoscaler of-ones-own decides on the replicas of demo-worker-default"
    assert refusal(release, 409, replicas=1).startswith(reason)
    assert release.replicas("default") == 2
    release.kubectl("delete", "horizontalpodautoscaler", "of-ones-own")

    # What belongs to others, by its labels, is not touched, though the role would allow it.
    release.kubectl("label", "deployment/demo-worker-default", "app.kubernetes.io/instance=other", "--overwrite")
    assert "does not belong to release demo" in refusal(release, 409, replicas=1)
    release.kubectl("label", "deployment/demo-worker-default", "app.kubernetes.io/instance=demo", "--overwrite")

    scaled = release.request("POST", "/admin/queues/default/scale", json={"replicas": 0})
    assert (scaled["replicas"], scaled["replicas_before"]) == (0, 2)
    release.wait_for_health(lambda checks: not any(checks["workers"].values()), "no worker")


def test_an_upgrade_with_replicas_null_leaves_the_count(release: Release):
    values = {"queues": {queue: {"replicas": None} for queue in ("data_sync", "default", "scheduled")}}
    release.helm("upgrade", values=values)
    release.scale("data_sync", 3)
    release.scale("default", 1)
    release.helm("upgrade", values=values)
    assert (release.replicas("data_sync"), release.replicas("default")) == (3, 1)
    release.wait_for_health(lambda checks: checks["workers"]["data_sync"] == 3, "three workers of data_sync")


def test_an_upgrade_restarts_nothing_that_it_does_not_concern(release: Release):
    before = {pod["metadata"]["name"] for pod in release.pods()}
    values = {"queues": {queue: {"replicas": None} for queue in ("data_sync", "default", "scheduled")}}
    token = release.token()
    release.helm("upgrade", values=values)
    assert {pod["metadata"]["name"] for pod in release.pods()} == before
    assert release.token() == token, "generated passwords stay"


def test_an_own_queue_is_a_line_of_values(release: Release):
    release.helm("upgrade", values={"queues": {"monthly_reports": {"concurrency": 1}}})
    release.kubectl("get", "deployment", "demo-worker-monthly-reports")
    task = release.run_task("examples.add", 40, 2, queue="monthly_reports")
    assert (task["state"], task["result"], task["queue"]) == ("SUCCESS", 42, "monthly_reports")


def test_an_own_workload_is_an_image_and_a_line_of_values(release: Release):
    for name in ("api", "worker", "beat"):
        build_image(f"example.test/own-{name}:1", HERE / "own_workload", BASE=f"celeriac/{name}:0.1.0")
    images = {name: {"repository": f"example.test/own-{name}", "tag": "1"} for name in ("api", "worker", "beat")}
    release.helm(
        "upgrade", values={"images": images, "workloads": ["my_workload"], "queues": {"my_queue": {"concurrency": 1}}}
    )
    task = release.run_task("my_workload.tasks.shout", "hello")
    assert (task["state"], task["result"], task["queue"]) == ("SUCCESS", "HELLO", "my_queue")
    assert not [job for job in release.get("jobs") if job["status"].get("failed")], "every migration went through"


def test_a_file_that_development_copies_into_a_pod_is_what_runs_next(release: Release):
    build_image("example.test/dev-api:1", ROOT, "services/api/Dockerfile", DEVELOPMENT="1")
    values = yaml.safe_load((ROOT / "k8s" / "values" / "development.yaml").read_text())
    release.helm("upgrade", values=values | {"images": {"api": {"repository": "example.test/dev-api", "tag": "1"}}})
    assert release.request("GET", "/openapi.json")["info"]["title"] == "Celeriac"
    edit = "import pathlib; p = pathlib.Path('/app/celeriac_api/app.py'); p.write_text(p.read_text().replace"
    release.kubectl("exec", "deployment/demo-api", "--", "python", "-c", f"{edit}('\"Celeriac\"', '\"Edited\"'))")
    release.kubectl(
        "exec", "deployment/demo-api", "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"
    )
    wait_for(
        lambda: release.request("GET", "/openapi.json")["info"]["title"] == "Edited", "the edited code to run", 120
    )


def test_uploads_reach_workers_through_s3(release: Release):
    build_image("example.test/s3:1", HERE / "s3")
    release.kubectl("apply", "--filename", str(HERE / "s3" / "server.yaml"))
    release.kubectl("rollout", "status", "deployment/s3", "--timeout=180s")
    release.kubectl("create", "secret", "generic", "s3-keys", *(f"--from-literal={pair}" for pair in S3_KEYS))
    release.helm(
        "upgrade",
        values={
            "fileStore": {"url": "s3://uploads/celeriac", "existingSecret": "s3-keys", "endpoint": "http://s3:5000"}
        },
    )
    file_id = release.upload(b"id\n" + b"\n".join(b"s3-%d" % number for number in range(100)), platform="generic")
    task = release.sync(file_id)
    assert (task["state"], task["result"]["inserted"]) == ("SUCCESS", 100)
    listing = release.kubectl("exec", "deployment/s3", "--", "python", "-m", "list_bucket", "uploads")
    assert "celeriac/data-sync/" in listing


def test_two_releases_in_one_namespace_do_not_meet(release: Release):
    release.helm("upgrade")
    with Release("second", release.namespace) as second:
        second.helm("install", values={"api": {"scaling": {"enabled": False}}})
        assert second.token() != release.token()
        assert second.run_task("examples.add", 1, 2)["result"] == 3
        assert "scaling is switched off" in refusal(second, 409, replicas=2)
        assert second.health()["checks"]["workers"] == {"data_sync": 1, "default": 1, "scheduled": 1}
        assert release.health()["checks"]["workers"] == {"data_sync": 1, "default": 1, "scheduled": 1}
        second.uninstall()
    assert release.run_task("examples.add", 2, 2)["result"] == 4


def test_an_uninstall_leaves_nothing(release: Release):
    release.uninstall()
    kinds = "all,secrets,configmaps,serviceaccounts,persistentvolumeclaims,roles,rolebindings,jobs,poddisruptionbudgets"

    def left() -> list[str]:
        found = release.get(kinds, f"--selector=app.kubernetes.io/instance={release.name}")
        return [f"{each['kind']}/{each['metadata']['name']}" for each in found]

    wait_for(lambda: not left(), "everything of the release to be gone", 120)
