"""The bundled Redis: templates/redis."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.chart.rendering import Renderer, environment, pod_spec, pod_template, secret_data
from tests.chart.scenarios import EXISTING_SECRETS, EXTERNAL


def test_an_external_redis_turns_the_bundled_one_off(render: Renderer):
    rendered = render(EXTERNAL)
    assert not [each for each in rendered if each["metadata"]["name"] == "r-redis"]
    assert secret_data(rendered.get("Secret", "r-redis-url")) == {"redis-url": EXTERNAL["redis"]["url"]}
    assert "r-redis-url" not in render(EXISTING_SECRETS).names("Secret")


def test_redis_keeps_every_write_and_drops_no_task(render: Renderer):
    lines = render({"redis": {"maxMemory": "1gb"}}).get("ConfigMap", "r-redis")["data"]["redis.conf"].splitlines()
    for line in ("appendonly yes", 'save ""', "maxmemory-policy noeviction", "maxmemory 1gb"):
        assert line in lines
    assert "dir /data" in lines


@pytest.mark.parametrize(("values", "mode"), [({}, "everysec"), ({"appendfsync": "always"}, "always")])
def test_redis_syncs_once_a_second_or_before_each_answer(render: Renderer, values, mode):
    rendered = render({"redis": {"persistence": values}})
    assert f"appendfsync {mode}" in rendered.get("ConfigMap", "r-redis")["data"]["redis.conf"].splitlines()


def test_redis_restarts_with_another_sync(render: Renderer):
    before, after = (
        pod_template(render({"redis": {"persistence": {"appendfsync": mode}}}).get("StatefulSet", "r-redis"))
        for mode in ("everysec", "always")
    )
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"]


def test_url_and_password_belong_together(render: Renderer):
    data = secret_data(render({}).get("Secret", "r-redis"))
    assert len(data["password"]) == 40
    assert data["redis-url"] == f"redis://:{data['password']}@r-redis:6379/0"


@pytest.mark.parametrize("password", ["plain", "quote\"s and \\back\\slashes #&'$HOME"])
def test_redis_takes_any_password_from_its_environment_and_shows_it_in_no_argument(
    render: Renderer, redis_program: Path, tmp_path: Path, password: str
):
    data = render({}).get("ConfigMap", "r-redis")["data"]
    start, config = (_moved(data[name], tmp_path) for name in ("start", "redis.conf"))
    (tmp_path / "start").write_text(start.replace("exec redis-server", f"exec {redis_program}"))
    (tmp_path / "redis.conf").write_text(f"{config}port 0\nunixsocket {tmp_path}/socket\n")
    env = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
    with subprocess.Popen(["sh", "-e", tmp_path / "start"], env=env, stdout=subprocess.DEVNULL) as process:
        try:
            retry = Retry(ConstantBackoff(0.05), 200)
            with redis.Redis(
                unix_socket_path=f"{tmp_path}/socket", password=password, retry=retry, decode_responses=True
            ) as client:
                assert client.config_get("appendonly")["appendonly"] == "yes"
            assert password.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert (tmp_path / "password.conf").stat().st_mode & 0o077 == 0
        finally:
            process.terminate()


def test_probes_know_the_password_by_the_environment(render: Renderer):
    for values, secret in (({}, "r-redis"), ({"redis": {"existingSecret": "mine"}}, "mine")):
        (container,) = pod_spec(render(values).get("StatefulSet", "r-redis"))["containers"]
        assert environment(container) == {"REDISCLI_AUTH": (secret, "password")}
        assert container["livenessProbe"]["exec"]["command"] == ["redis-cli", "ping"]


@pytest.mark.parametrize(("retain", "policy", "kept"), [(False, "Delete", None), (True, "Retain", "keep")])
def test_data_goes_with_the_release_or_stays_together_with_its_password(render: Renderer, retain, policy, kept):
    rendered = render({"redis": {"persistence": {"retain": retain}}})
    spec = rendered.get("StatefulSet", "r-redis")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": policy, "whenScaled": "Retain"}
    annotations = rendered.get("Secret", "r-redis")["metadata"].get("annotations", {})
    assert annotations.get("helm.sh/resource-policy") == kept


def _moved(text: str, folder: Path) -> str:
    for path in ("/run/redis", "/etc/redis", "/data"):
        text = text.replace(path, str(folder))
    return text
