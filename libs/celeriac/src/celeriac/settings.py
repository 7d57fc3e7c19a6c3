"""Every setting, in one place; the only module that reads the environment.

The five that outside tools know have names of their own (`REDIS_URL`, `DATABASE_URL`, `CELERIAC_API_TOKEN`, …);
everything else is `CELERIAC_<SECTION>__<NAME>`, such as `CELERIAC_WORKER__PREFETCH_MULTIPLIER=1`.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AliasChoices,
    BaseModel,
    ByteSize,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from celeriac.broker.url import RedisUrl
from celeriac.errors import ConfigurationError
from celeriac.rate import Rate

#: The file in a data directory that says how to join the platform that runs there.
ENVIRONMENT_FILE = "environment"

Names = Annotated[tuple[str, ...], NoDecode]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RedisSettings(BaseModel):
    """What lies in Redis."""

    key_prefix: str = Field(
        "",
        max_length=100,
        pattern=r"^[!-~]*$",
        description="Stands before every key, for several platforms in one database.",
    )


class ApiSettings(BaseModel):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="Address to listen on; images set 0.0.0.0.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    url: str = Field("http://127.0.0.1:8000", description="Where the command line finds the API.")
    max_body_bytes: ByteSize = Field(ByteSize(2**20), description="Largest request body, uploads aside.")
    max_bulk_bytes: ByteSize = Field(ByteSize(16 * 2**20), description="Largest body of a bulk submit.")
    max_upload_bytes: ByteSize = Field(ByteSize(2**30), description="Largest uploaded file.")
    max_argument_bytes: ByteSize = Field(
        ByteSize(2**18),
        description="Largest arguments of a submitted task, as JSON: Redis holds them until it has run.",
    )
    max_listeners: PositiveInt = Field(
        2000, description="How many may follow tasks at a time, by events or `wait`, in each process."
    )
    token_rate_limit: str | None = Field(
        None,
        description="How often a token may submit that was made without `--rate`, such as 100/s, 600/m or 1000/h; "
        "unset, as often as it likes. CELERIAC_API_TOKEN is not limited.",
    )
    max_head_bytes: ByteSize = Field(
        ByteSize(32 * 2**10), description="Longest URL and headers of a request, together."
    )
    max_connections: int = Field(
        4096,
        ge=16,
        le=100_000,
        description="Connections of one API process; further ones take the place of those that are idle, or get 503.",
    )
    head_seconds: Seconds = Field(10, description="How long the URL and headers of a request may take to arrive.")
    body_seconds: Seconds = Field(
        20, description="How long the body of a request may take to arrive, and a second more for each KiB of it."
    )
    unread_seconds: Seconds = Field(
        30, description="How long a client may leave an answer unread before it is cut off."
    )

    @field_validator("token_rate_limit")
    @classmethod
    def _known_rate(cls, value: str | None) -> str | None:
        if value is not None:
            Rate.parse(value)
        return value


class AuditSettings(BaseModel):
    """The audit log of administrative acts."""

    retention_days: Annotated[float, Field(gt=0, le=36600)] = Field(90, description="Days for which its rows are kept.")


class WorkerSettings(BaseModel):
    """Workers: Celery's own defaults where it matters less, safer ones where it matters."""

    prefetch_multiplier: PositiveInt = Field(4, description="Messages held per slot, running ones included.")
    grace_period_seconds: Seconds | None = Field(
        None,
        description="When a worker that was told to stop is killed, as Kubernetes' terminationGracePeriodSeconds; "
        "20 s before that it returns what still runs to the queue. Unset, it waits for its tasks.",
    )
    max_tasks_per_child: PositiveInt = Field(1000, description="A child process is replaced after so many tasks.")
    soft_time_limit: Seconds = Field(300, description="Seconds until a task is told to stop, if it sets none.")
    time_limit: Seconds = Field(
        360, validate_default=True, description="Seconds until a task is killed, if it sets none."
    )

    @field_validator("time_limit")
    @classmethod
    def _after_soft(cls, value: float, info: ValidationInfo) -> float:
        soft = info.data.get("soft_time_limit", 0)
        if value <= soft:
            msg = f"must be above CELERIAC_WORKER__SOFT_TIME_LIMIT ({soft:g}), or no task could ever clean up"
            raise ValueError(msg)
        return value


class ResultSettings(BaseModel):
    """Task records and results."""

    expires_seconds: PositiveInt = Field(3600, description="How long a finished task's record and result are kept.")
    unfinished_expires_seconds: PositiveInt = Field(
        7 * 86400, description="How long the record of a task that has not ended is kept after its last change."
    )
    inline_bytes: Annotated[ByteSize, Field(ge=4096, le=2**28)] = Field(
        ByteSize(256 * 1024), description="A result that is larger, as JSON, goes to the file store; Redis names it."
    )
    max_bytes: ByteSize = Field(ByteSize(64 * 2**20), description="A task whose result is larger, as JSON, fails.")


class RegistrySettings(BaseModel):
    """The registry of living workers."""

    heartbeat_seconds: Seconds = Field(2, description="How often a worker writes its record.")
    expires_seconds: Seconds = Field(10, validate_default=True, description="When a silent worker no longer counts.")

    @field_validator("expires_seconds")
    @classmethod
    def _three_heartbeats(cls, value: float, info: ValidationInfo) -> float:
        heartbeat = info.data.get("heartbeat_seconds", 0)
        if value < 3 * heartbeat:
            msg = f"must be at least three times CELERIAC_REGISTRY__HEARTBEAT_SECONDS ({heartbeat:g})"
            raise ValueError(msg)
        return value


class ProbeSettings(BaseModel):
    """The probe server of workers and Beat."""

    host: str = Field("127.0.0.1", description="Address to listen on; images set 0.0.0.0.")
    port: int = Field(0, ge=0, le=65535, description="Port of /health/live and /health/ready; 0 for no server.")
    stuck_seconds: Seconds = Field(
        60, description="A process whose loop has not turned for so long, while Redis answers it, is not alive."
    )


class KubernetesSettings(BaseModel):
    """The cluster that the platform runs in; the chart sets what differs."""

    api_url: str = Field("https://kubernetes.default.svc", description="Where pods find the cluster's API.")
    account_dir: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), description="Where a pod finds its ServiceAccount."
    )
    release: str = Field("", description="The Helm release that this process belongs to.")


class ScalingSettings(BaseModel):
    """Scaling of worker Deployments through the API."""

    enabled: bool = Field(default=True, description="Whether it is allowed; it also takes a cluster and a role there.")
    max_replicas: PositiveInt = Field(50, description="The most replicas of a queue that may be asked for.")


class SmtpSettings(BaseModel):
    """The mail server that sends what tasks write."""

    host: str = Field("localhost", description="Host name of the SMTP server.")
    port: int = Field(25, ge=1, le=65535, description="Port; 465 speaks TLS from the start.")
    starttls: bool = Field(default=False, description="Upgrade the connection by STARTTLS before anything else.")
    username: str | None = Field(None, description="Login, where the server wants one.")
    password: SecretStr | None = Field(None, description="Its password.")
    sender: str = Field("celeriac@localhost", description="The From address.")
    timeout_seconds: Seconds = Field(30, description="For connecting and for each answer.")


class LogSettings(BaseModel):
    """Logs: one event per line."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least severe level shown.")
    format: Literal["json", "console"] = Field("json", description="JSON for machines, console for people.")


class Settings(BaseSettings):
    """The settings of one process, checked at start."""

    model_config = SettingsConfigDict(
        env_prefix="CELERIAC_",
        env_nested_delimiter="__",
        # A manifest that leaves a value empty means the default, as it does where the variable is missing.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # What is wrong may be a secret; `load_settings` shows those values that are none.
        hide_input_in_errors=True,
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        validation_alias=AliasChoices("REDIS_URL", "CELERY_BROKER_URL"),
        description="Broker and results: redis://, rediss://, unix:///path or redis+sentinel://host:26379/master.",
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///celeriac.db"),
        validation_alias=AliasChoices("DATABASE_URL"),
        description="postgresql://user:password@host/name or sqlite:////path.",
    )
    api_token: SecretStr | None = Field(None, description="The bootstrap token: all scopes.")
    workloads: Names | None = Field(
        None, description="Import paths of workload packages, comma-separated; unset, all that are installed load."
    )
    queues: Names = Field((), description="Further queues, comma-separated, besides those of the workloads.")
    rate_limits: dict[str, str | None] = Field(
        {},
        description="How often tasks may be submitted over the API, by task name, as JSON: "
        """`{"examples.send_email": "10/s"}`. Other forms are `600/m` and `1000/h`; null lifts a workload's limit.""",
    )
    timezone: str = Field("UTC", description="IANA zone in which schedules are read, such as Asia/Shanghai.")
    file_store: str = Field("db:", description="Where files lie: file:///folder, s3://bucket/prefix or db:.")
    redis_server: str | None = Field(None, description="The server binary that `celeriac up` starts.")
    data_dir: Path = Field(Path(".celeriac"), description="Local state, such as Beat's schedule file.")

    redis: RedisSettings = RedisSettings()
    api: ApiSettings = ApiSettings()
    audit: AuditSettings = AuditSettings()
    worker: WorkerSettings = WorkerSettings()
    results: ResultSettings = ResultSettings()
    registry: RegistrySettings = RegistrySettings()
    probe: ProbeSettings = ProbeSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    scaling: ScalingSettings = ScalingSettings()
    smtp: SmtpSettings = SmtpSettings()
    log: LogSettings = LogSettings()

    @field_validator("workloads", "queues", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the source gave
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("rate_limits")
    @classmethod
    def _known_rates(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        for name, text in value.items():
            try:
                Rate.parse("1/s" if text is None else text)
            except ValueError as error:
                msg = f"{name}: {error}"
                raise ValueError(msg) from None
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = "no such IANA time zone; use a name such as Europe/Berlin or Asia/Shanghai"
            raise ValueError(msg) from error
        return value

    @field_validator("file_store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value.partition(":")[0] not in {"file", "s3", "db"}:
            msg = "is no file store; use file:///folder, s3://bucket/prefix or db:"
            raise ValueError(msg)
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_url(cls, value: SecretStr) -> SecretStr:
        try:
            RedisUrl.parse(value.get_secret_value())
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("REDIS_URL: ")) from None
        return value


def load_settings(data_dir: Path | None = None) -> Settings:
    """Read the settings of this process.

    Args:
        data_dir: join the platform that runs there (`celeriac up --data-dir`): what its environment file says is
            put into the environment, unless that already says otherwise.

    Raises:
        ConfigurationError: a setting is wrong, or nothing runs in `data_dir`.
    """
    if data_dir is not None:
        for name, value in read_environment_file(data_dir).items():
            if not os.environ.get(name):  # an empty variable says nothing
                os.environ[name] = value
    redis_url, celery_url = os.environ.get("REDIS_URL"), os.environ.get("CELERY_BROKER_URL")
    if redis_url and celery_url and redis_url != celery_url:
        # Celery itself reads CELERY_BROKER_URL, so publishers and workers would use different servers.
        msg = "REDIS_URL and CELERY_BROKER_URL are both set and differ; set one of them"
        raise ConfigurationError(msg)
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:
        msg = f"{error}; it must be JSON, or set its parts one by one as CELERIAC_<SECTION>__<NAME>"
        raise ConfigurationError(msg) from None


def read_environment_file(data_dir: Path) -> dict[str, str]:
    """Read what `celeriac up` left for those who join it.

    Raises:
        ConfigurationError: nothing runs there.
    """
    path = data_dir / ENVIRONMENT_FILE
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        msg = (
            f"--data-dir: no platform runs in {data_dir} ({path} cannot be read: {error.strerror}); start `celeriac up`"
        )
        raise ConfigurationError(msg) from None
    pairs = (assignment.partition("=") for assignment in shlex.split(text))
    return {name: value for name, _, value in pairs}


def write_environment_file(data_dir: Path, variables: dict[str, str]) -> None:
    """Leave word for those who join: readable by the owner alone, for the token is in it."""
    path = data_dir / ENVIRONMENT_FILE
    new = path.with_suffix(".new")
    # One that a crash left behind could have another mode.
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()).encode())
    new.replace(path)


def inherited_environment() -> dict[str, str]:
    """A copy of this process' environment, for child processes."""
    return dict(os.environ)


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"]]
        name = path[0] if path[0].isupper() else "CELERIAC_" + "__".join(path).upper()
        if name == "REDIS_URL" and not os.environ.get(name):
            name = "CELERY_BROKER_URL"
        message = problem["msg"].removeprefix("Value error, ")
        shown = problem["input"]
        secret = "URL" in name or "TOKEN" in name or "PASSWORD" in name or not isinstance(shown, str | int | float)
        lines.append(f"{name}: {message}" + ("" if secret else f" (got {shown!r})"))
    return "\n".join(lines)
