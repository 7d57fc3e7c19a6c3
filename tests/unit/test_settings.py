"""Settings: where they come from, and what an error says of one that is wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from celeriac.errors import ConfigurationError
from celeriac.settings import (
    ENVIRONMENT_FILE,
    Settings,
    load_settings,
    read_environment_file,
    write_environment_file,
)

SECRET = "hunter2"

#: What a variable of an environment can hold.
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture(autouse=True)
def environ() -> Iterator[None]:
    """An environment without settings, put back afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("CELERIAC_") or name in {"REDIS_URL", "CELERY_BROKER_URL", "DATABASE_URL"}:
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def error_of(**variables: str) -> str:
    os.environ.update(variables)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return str(caught.value)


def test_without_any_variable_everything_is_on_this_machine():
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert settings.database_url.get_secret_value() == "sqlite:///celeriac.db"
    assert settings.workloads is None
    assert settings.api_token is None


def test_the_settings_that_outside_tools_know_have_their_names():
    os.environ |= {"REDIS_URL": "rediss://r/1", "DATABASE_URL": "postgresql://u:p@h/d", "CELERIAC_API_TOKEN": "t"}
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == "rediss://r/1"
    assert settings.database_url.get_secret_value() == "postgresql://u:p@h/d"
    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == "t"


def test_every_other_setting_is_named_by_its_section():
    os.environ |= {
        "CELERIAC_WORKER__PREFETCH_MULTIPLIER": "1",
        "CELERIAC_API__MAX_UPLOAD_BYTES": "2GiB",
        "CELERIAC_TIMEZONE": "Asia/Shanghai",
        "CELERIAC_SMTP__STARTTLS": "true",
    }
    settings = load_settings()
    assert settings.worker.prefetch_multiplier == 1
    assert settings.api.max_upload_bytes == 2 * 2**30
    assert settings.timezone == "Asia/Shanghai"
    assert settings.smtp.starttls


def test_the_broker_url_of_celery_is_taken_where_redis_url_is_missing_or_empty():
    os.environ["CELERY_BROKER_URL"] = "redis://other/2"
    assert load_settings().redis_url.get_secret_value() == "redis://other/2"
    os.environ["REDIS_URL"] = ""
    assert load_settings().redis_url.get_secret_value() == "redis://other/2"


def test_two_broker_urls_must_be_the_same():
    os.environ |= {"REDIS_URL": "redis://one", "CELERY_BROKER_URL": "redis://one"}
    assert load_settings().redis_url.get_secret_value() == "redis://one"
    error = error_of(CELERY_BROKER_URL=f"redis://:{SECRET}@two")
    assert "REDIS_URL and CELERY_BROKER_URL are both set and differ; set one of them" in error
    assert SECRET not in error


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("examples", ("examples",)),
        (" workloads.examples, ,my.own ,", ("workloads.examples", "my.own")),
        (",", ()),
        ("", None),
    ],
)
def test_workloads_are_a_list_with_commas(given: str, read: tuple[str, ...] | None):
    os.environ["CELERIAC_WORKLOADS"] = given
    assert load_settings().workloads == read


def test_an_empty_variable_means_the_default():
    os.environ |= {"CELERIAC_API__PORT": "", "CELERIAC_API_TOKEN": "", "DATABASE_URL": ""}
    settings = load_settings()
    assert settings.api.port == 8000
    assert settings.api_token is None
    assert settings.database_url.get_secret_value() == "sqlite:///celeriac.db"


@pytest.mark.parametrize(
    ("variable", "value", "way_out"),
    [
        ("CELERIAC_TIMEZONE", "Mars/Olympus", "use a name such as Europe/Berlin"),
        ("CELERIAC_TIMEZONE", "../../etc/passwd", "use a name such as Europe/Berlin"),
        ("CELERIAC_API__PORT", "70000", "less than or equal to 65535"),
        ("CELERIAC_LOG__LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("CELERIAC_RESULTS__EXPIRES_SECONDS", "0", "greater than 0"),
        ("CELERIAC_WORKER__TIME_LIMIT", "inf", "finite"),
        ("CELERIAC_WORKER__TIME_LIMIT", "300", "must be above CELERIAC_WORKER__SOFT_TIME_LIMIT (300)"),
        ("CELERIAC_REGISTRY__EXPIRES_SECONDS", "5", "three times CELERIAC_REGISTRY__HEARTBEAT_SECONDS (2)"),
    ],
)
def test_an_error_names_the_variable_its_value_and_the_way_out(variable: str, value: str, way_out: str):
    error = error_of(**{variable: value})
    assert error.startswith(f"{variable}: ")
    assert value in error
    assert way_out in error


def test_a_soft_limit_above_the_default_hard_one_is_refused():
    error = error_of(CELERIAC_WORKER__SOFT_TIME_LIMIT="400")
    assert "CELERIAC_WORKER__TIME_LIMIT: must be above CELERIAC_WORKER__SOFT_TIME_LIMIT (400)" in error
    assert "(got 360)" in error


def test_all_wrong_settings_are_named_at_once():
    error = error_of(CELERIAC_TIMEZONE="Mars", CELERIAC_API__PORT="-1")
    assert [line.partition(":")[0] for line in error.splitlines()] == ["CELERIAC_TIMEZONE", "CELERIAC_API__PORT"]


@pytest.mark.parametrize("variable", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_a_scheme_that_is_not_supported_is_named_with_those_that_are(variable: str):
    error = error_of(**{variable: f"amqp://user:{SECRET}@host"})
    assert error.startswith(f"{variable}: scheme 'amqp' is not supported; use redis://, rediss://, unix://")
    assert SECRET not in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", f"user:{SECRET}@host"),
        ("REDIS_URL", f"{SECRET}"),
        ("CELERIAC_SMTP", f'{{"password": "{SECRET}"'),
        ("CELERIAC_SMTP", f'{{"password": ["{SECRET}"]}}'),
        ("CELERIAC_API", SECRET),
    ],
)
def test_no_secret_is_shown_in_an_error(variable: str, value: str):
    assert SECRET not in error_of(**{variable: value})


def test_no_secret_is_shown_where_settings_are_made_or_printed():
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=f"amqp://user:{SECRET}@host")
    assert SECRET not in str(caught.value)
    settings = Settings(redis_url=f"redis://:{SECRET}@host", database_url=f"postgresql://u:{SECRET}@h/d")
    assert SECRET not in repr(settings)


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_0-9]{0,20}", fullmatch=True), VALUES))
def test_an_environment_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]
):
    folder = tmp_path_factory.mktemp("data")
    write_environment_file(folder, variables)
    assert read_environment_file(folder) == variables


@pytest.mark.parametrize("left_behind", [False, True])
def test_an_environment_file_is_for_its_owner_alone(tmp_path: Path, left_behind: bool):
    if left_behind:
        (tmp_path / f"{ENVIRONMENT_FILE}.new").touch(mode=0o644)
    write_environment_file(tmp_path, {"CELERIAC_API_TOKEN": SECRET})
    assert [path.name for path in tmp_path.iterdir()] == [ENVIRONMENT_FILE]
    assert stat.S_IMODE((tmp_path / ENVIRONMENT_FILE).stat().st_mode) == 0o600


def test_who_joins_a_platform_reads_its_environment_but_keeps_their_own(tmp_path: Path):
    write_environment_file(tmp_path, {"REDIS_URL": "unix:///a b/redis.sock", "CELERIAC_TIMEZONE": "Asia/Shanghai"})
    os.environ["CELERIAC_TIMEZONE"] = "Europe/Berlin"
    settings = load_settings(tmp_path)
    assert settings.redis_url.get_secret_value() == "unix:///a b/redis.sock"
    assert settings.timezone == "Europe/Berlin"


def test_a_directory_where_nothing_runs_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "nothing")
    assert f"--data-dir: no platform runs in {tmp_path / 'nothing'}" in str(caught.value)
    assert "start `celeriac up`" in str(caught.value)


def test_rate_limits_are_json_by_task_name():
    os.environ |= {
        "CELERIAC_RATE_LIMITS": '{"examples.send_email": "10/s", "examples.add": null}',
        "CELERIAC_API__TOKEN_RATE_LIMIT": "100/m",
    }
    settings = load_settings()
    assert settings.rate_limits == {"examples.send_email": "10/s", "examples.add": None}
    assert settings.api.token_rate_limit == "100/m"


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("CELERIAC_RATE_LIMITS", '{"a.b": "10"}', ["CELERIAC_RATE_LIMITS: a.b: ", "such as 10/s", "(got '10')"]),
        ("CELERIAC_RATE_LIMITS", "a.b=10/s", ["rate_limits", "must be JSON"]),
        ("CELERIAC_API__TOKEN_RATE_LIMIT", "fast", ["CELERIAC_API__TOKEN_RATE_LIMIT: ", "such as 10/s", "'fast'"]),
    ],
)
def test_a_rate_that_is_none_is_refused(variable: str, value: str, named: list[str]):
    error = error_of(**{variable: value})
    for words in named:
        assert words in error
