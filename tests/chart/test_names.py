"""Names, labels and selectors: templates/_names.tpl."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Renderer, is_workload, pod_template
from tests.chart.scenarios import EVERYTHING, EXTERNAL, SCENARIOS


def test_a_release_has_an_api_beat_and_a_worker_deployment_for_each_queue(render: Renderer):
    assert render(release="prod").names("Deployment") == [
        "prod-api",
        "prod-beat",
        "prod-worker-data-sync",
        "prod-worker-default",
        "prod-worker-scheduled",
    ]


def test_bundled_servers_and_secrets_are_named_after_the_release(render: Renderer):
    rendered = render(release="prod")
    assert rendered.names("StatefulSet") == ["prod-postgresql", "prod-redis"]
    assert rendered.names("Service") == ["prod-api", "prod-postgresql", "prod-redis"]
    assert rendered.names("Secret") == ["prod-api", "prod-postgresql", "prod-redis"]
    assert rendered.names("ServiceAccount") == ["prod-api", "prod-beat", "prod-worker"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_releases_in_one_namespace_share_no_object_and_select_no_pod_of_the_other(render: Renderer, scenario: str):
    one, other = render(SCENARIOS[scenario], release="a"), render(SCENARIOS[scenario], release="b")

    def identities(rendered):
        return {(each["kind"], each["metadata"]["name"]) for each in rendered}

    assert not identities(one) & identities(other)
    pods = [pod_template(each)["metadata"]["labels"] for each in other if is_workload(each)]
    for selector in _selectors(one):
        assert not any(selector.items() <= labels.items() for labels in pods)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_selector_matches_the_pods_of_one_workload_only(render: Renderer, scenario: str):
    rendered = render(SCENARIOS[scenario])
    pods = [pod_template(each)["metadata"]["labels"] for each in rendered if is_workload(each)]
    for selector in _selectors(rendered):
        assert sum(selector.items() <= labels.items() for labels in pods) == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_selectors_and_volume_claims_hold_nothing_that_changes_with_a_version(render: Renderer, scenario: str):
    allowed = {f"app.kubernetes.io/{key}" for key in ("name", "instance", "component")} | {"celeriac/queue"}
    for selector in _selectors(render(SCENARIOS[scenario])):
        assert selector.keys() <= allowed
    for each in render(SCENARIOS[scenario]):
        for claim in each.get("spec", {}).get("volumeClaimTemplates", []):
            assert claim["metadata"]["labels"].keys() <= allowed


def test_every_object_carries_the_recommended_labels(render: Renderer):
    for each in render(EVERYTHING):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "celeriac"
        assert labels["app.kubernetes.io/instance"] == "r"
        assert labels["app.kubernetes.io/part-of"] == "celeriac"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/component"]
        assert labels["helm.sh/chart"].startswith("celeriac-")
        assert each["metadata"]["namespace"] == "n"


def test_the_version_label_is_the_tag_of_the_component_without_digest(render: Renderer):
    images = {"redis": {"tag": "8.2@sha256:" + "0" * 64}, "worker": {"tag": "1.0_rc/1"}}
    rendered = render({"images": images})
    assert rendered.get("StatefulSet", "r-redis")["metadata"]["labels"]["app.kubernetes.io/version"] == "8.2"
    worker = rendered.get("Deployment", "r-worker-default")
    assert worker["metadata"]["labels"]["app.kubernetes.io/version"] == "1.0_rc_1"


def test_pod_labels_of_the_user_do_not_replace_those_that_are_selected_by(render: Renderer):
    rendered = render({"podLabels": {"team": "a", "app.kubernetes.io/component": "mine"}})
    labels = pod_template(rendered.get("Deployment", "r-api"))["metadata"]["labels"]
    assert labels["team"] == "a"
    assert labels["app.kubernetes.io/component"] == "api"


@pytest.mark.parametrize("release", ["true", "null", "e1"])
def test_names_that_yaml_could_take_for_something_else_stay_names(render: Renderer, release: str):
    rendered = render({"queues": {"null": {}, "true": {}}}, release=release)
    assert f"{release}-worker-true" in rendered.names("Deployment")
    worker = rendered.get("Deployment", f"{release}-worker-null")
    assert worker["spec"]["selector"]["matchLabels"]["celeriac/queue"] == "null"
    assert pod_template(worker)["spec"]["containers"][0]["args"][1:3] == ["--queue", "null"]


def test_the_longest_release_fits_every_limit_of_kubernetes(render: Renderer):
    release = "r" * 40
    for values in ({"queues": {"q" * 15: {}}}, EXTERNAL):
        for each in render(values, release=release):
            assert len(each["metadata"]["name"]) <= (52 if each["kind"] == "StatefulSet" else 63)
    # A revision of four more digits still fits.
    assert len(render({}, release=release).job()["metadata"]["name"]) <= 59


def _selectors(rendered):
    found = []
    for each in rendered:
        selector = each.get("spec", {}).get("selector")
        if selector:
            found.append(selector.get("matchLabels", selector))
    assert found
    return found
