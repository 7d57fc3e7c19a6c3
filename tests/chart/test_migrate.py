"""The migration: templates/migrate."""

from __future__ import annotations

import re

from tests.chart.rendering import Renderer, pod_spec


def test_the_migration_is_no_hook_so_that_wait_cannot_deadlock(render: Renderer):
    for each in render({}):
        hook = each["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hook == ("test" if each["kind"] == "Pod" else None)


def test_the_migration_runs_the_image_of_the_api(render: Renderer):
    spec = render({"images": {"api": {"tag": "7"}}}).job()["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == ("celeriac/api:7", ["migrate", "--timeout", "300"])


def test_each_upgrade_has_a_job_of_its_own_since_jobs_cannot_be_changed(render: Renderer):
    first, same, changed = (
        render(values).job() for values in ({}, {"api": {"replicas": 2}}, {"timezone": "Asia/Tokyo"})
    )
    assert re.fullmatch(r"r-migrate-1-[0-9a-f]{8}", first["metadata"]["name"])
    assert first["metadata"]["name"] == same["metadata"]["name"]
    assert first["metadata"]["name"] != changed["metadata"]["name"]


def test_a_failed_migration_is_tried_again_and_its_log_stays(render: Renderer):
    job = render({}).job()
    assert job["spec"]["backoffLimit"] == 6
    assert pod_spec(job)["restartPolicy"] == "Never"


def test_the_finished_job_goes_after_an_hour_or_stays(render: Renderer):
    assert render({}).job()["spec"]["ttlSecondsAfterFinished"] == 3600
    assert render({"migrate": {"ttlSecondsAfterFinished": 0}}).job()["spec"]["ttlSecondsAfterFinished"] == 0
    assert "ttlSecondsAfterFinished" not in render({"migrate": {"ttlSecondsAfterFinished": None}}).job()["spec"]
