"""The bundled PostgreSQL: templates/postgresql."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Renderer, environment, pod_spec, secret_data
from tests.chart.scenarios import EXISTING_SECRETS, EXTERNAL


def test_an_external_database_turns_the_bundled_one_off(render: Renderer):
    rendered = render(EXTERNAL)
    assert not [each for each in rendered if each["metadata"]["name"] == "r-postgresql"]
    assert secret_data(rendered.get("Secret", "r-database-url")) == {"database-url": EXTERNAL["database"]["url"]}
    assert "r-database-url" not in render(EXISTING_SECRETS).names("Secret")


def test_url_and_password_belong_together(render: Renderer):
    rendered = render({})
    data = secret_data(rendered.get("Secret", "r-postgresql"))
    assert len(data["password"]) == 40
    assert data["database-url"] == f"postgresql://celeriac:{data['password']}@r-postgresql:5432/celeriac"
    (container,) = pod_spec(rendered.get("StatefulSet", "r-postgresql"))["containers"]
    env = environment(container)
    assert (env["POSTGRES_USER"], env["POSTGRES_DB"]) == ("celeriac", "celeriac")
    assert env["POSTGRES_PASSWORD"] == ("r-postgresql", "password")


def test_data_lies_in_a_folder_of_the_volume_as_initdb_wants_an_empty_one(render: Renderer):
    (container,) = pod_spec(render({}).get("StatefulSet", "r-postgresql"))["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "data")
    assert environment(container)["PGDATA"].startswith(f"{mount['mountPath']}/")


def test_probes_ask_by_tcp_which_the_image_opens_when_its_database_is_made(render: Renderer):
    (container,) = pod_spec(render({}).get("StatefulSet", "r-postgresql"))["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[0] == "pg_isready"
        assert "--host=127.0.0.1" in command


@pytest.mark.parametrize(("retain", "policy", "kept"), [(False, "Delete", None), (True, "Retain", "keep")])
def test_data_goes_with_the_release_or_stays_together_with_its_password(render: Renderer, retain, policy, kept):
    rendered = render({"database": {"persistence": {"retain": retain, "size": "20Gi", "storageClass": "fast"}}})
    spec = rendered.get("StatefulSet", "r-postgresql")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": policy, "whenScaled": "Retain"}
    annotations = rendered.get("Secret", "r-postgresql")["metadata"].get("annotations", {})
    assert annotations.get("helm.sh/resource-policy") == kept
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
