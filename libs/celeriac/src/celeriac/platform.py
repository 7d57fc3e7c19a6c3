"""The platform as a process sees it: a Celery app that holds the settings, the workloads, and what it needs one of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import celery
from celery import Celery
from redis import Redis

from celeriac.access import AuditLog, Tokens
from celeriac.broker import Endpoint, Keys
from celeriac.broker.dead_letters import DeadLetters
from celeriac.broker.leases import Leases
from celeriac.broker.line import Line
from celeriac.broker.pauses import Pauses
from celeriac.broker.purge import Purge
from celeriac.database import Database
from celeriac.errors import ConfigurationError
from celeriac.events import Events
from celeriac.kubernetes import Cluster, Scaling
from celeriac.publishing.publisher import Publisher
from celeriac.rate import Rate
from celeriac.registry import Registry
from celeriac.results import Listing, Reconciliation, Records, ResultFiles, Sweep
from celeriac.settings import Settings
from celeriac.storage import FileStore, open_store
from celeriac.task import check_class, on_task
from celeriac.workload import Queue, Workload


class CeleriacApp(Celery):
    """A Celery app that knows its platform. Made by `create_app`."""

    amqp_cls = "celeriac.publishing.amqp:RecordingAMQP"
    control_cls = "celeriac.publishing.control:Control"
    task_cls = "celeriac.task:Task"

    settings: Settings
    workloads: tuple[Workload, ...]
    queues: tuple[Queue, ...]
    #: How often tasks may be submitted, by name; of those that have a limit.
    rate_limits: Mapping[str, Rate]

    @cached_property
    def database(self) -> Database:
        """The database."""
        return Database(self.settings.database_url.get_secret_value())

    @cached_property
    def tokens(self) -> Tokens:
        """The API tokens in the database."""
        return Tokens(self.database, self.settings.api.token_rate_limit)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit log of administrative acts."""
        return AuditLog(self.database, self.settings.audit.retention_days)

    @cached_property
    def files(self) -> FileStore:
        """The file store."""
        return open_store(self.settings.file_store, self.database)

    @cached_property
    def result_files(self) -> ResultFiles:
        """The files of results that are too large for Redis."""
        return ResultFiles(self.redis, self.keys, lambda: self.files)

    @cached_property
    def endpoint(self) -> Endpoint:
        """Where Redis is."""
        return Endpoint.parse(self.settings.redis_url.get_secret_value())

    @cached_property
    def keys(self) -> Keys:
        """The names of keys in Redis."""
        return Keys(self.settings.redis.key_prefix)

    @cached_property
    def redis(self) -> Redis:
        """A thread-safe client of Redis; it decodes responses and gives up after 5 s."""
        pool = self.endpoint.pool(
            decode_responses=True, socket_timeout=5, socket_connect_timeout=2, health_check_interval=25
        )
        return Redis(connection_pool=pool)

    @cached_property
    def raw_redis(self) -> Redis:
        """The same without decoding: messages may hold any bytes."""
        pool = self.endpoint.pool(socket_timeout=5, socket_connect_timeout=2, health_check_interval=25)
        return Redis(connection_pool=pool)

    @cached_property
    def probe_redis(self) -> Redis:
        """A client for probes and health, which must answer before their caller gives up: it does so after 0.5 s."""
        pool = self.endpoint.pool(decode_responses=True, socket_timeout=0.5, socket_connect_timeout=0.5)
        return Redis(connection_pool=pool)

    @property
    def line(self) -> Line:
        """The connection to Redis of the running event loop."""
        return self._lines.setdefault(asyncio.get_running_loop(), Line(self.endpoint))

    @cached_property
    def _lines(self) -> MutableMapping[asyncio.AbstractEventLoop, Line]:
        return WeakKeyDictionary()

    @property
    def task_events(self) -> Events:
        """The changes of task records, for the running event loop."""
        loop = asyncio.get_running_loop()
        return self._task_events.setdefault(loop, Events(self.endpoint, self.keys, self.records, self.line))

    @cached_property
    def _task_events(self) -> MutableMapping[asyncio.AbstractEventLoop, Events]:
        return WeakKeyDictionary()

    @cached_property
    def publisher(self) -> Publisher:
        """Publishes from asyncio."""
        return Publisher(self)

    @cached_property
    def queue_limits(self) -> Mapping[str, int]:
        """How many messages a queue may hold before submits to it are refused, by queue; of those that have a limit."""
        return {queue.name: queue.max_length for queue in self.queues if queue.max_length is not None}

    @cached_property
    def leases(self) -> Leases:
        """What can be done with leases and dead letters."""
        return Leases(self.redis, self.keys)

    @cached_property
    def pauses(self) -> Pauses:
        """What pauses and resumes queues."""
        return Pauses(self.redis, self.keys)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The dead letters of all queues; `celeriac.publishing.dead_letters` sees to their tasks as well."""
        return DeadLetters(self.raw_redis, self.keys)

    @cached_property
    def purge(self) -> Purge:
        """What purges queues; `celeriac.publishing.purge` sees to chords as well."""
        return Purge(self.raw_redis, self.keys, expires_seconds=self.settings.results.expires_seconds)

    @cached_property
    def records(self) -> Records:
        """The task records."""
        results = self.settings.results
        return Records(
            self.redis,
            self.keys,
            expires_seconds=results.expires_seconds,
            unfinished_expires_seconds=results.unfinished_expires_seconds,
        )

    @cached_property
    def listing(self) -> Listing:
        """The lists of task records."""
        return Listing(self.redis, self.keys)

    @cached_property
    def reconcile(self) -> Reconciliation:
        """What fails tasks whose message is nowhere any more."""

        def keeps_message(name: str) -> bool:
            return name in self.tasks and bool(self.tasks[name].acks_late)

        return Reconciliation(
            self.endpoint,
            self.keys,
            self.listing,
            expires_seconds=self.settings.results.expires_seconds,
            keeps_message=keeps_message,
        )

    @cached_property
    def sweep(self) -> Sweep:
        """What a keeper does for the indexes of records."""
        results = self.settings.results
        return Sweep(
            self.keys,
            expires_seconds=results.expires_seconds,
            unfinished_expires_seconds=results.unfinished_expires_seconds,
        )

    @cached_property
    def scaling(self) -> Scaling:
        """What scales worker Deployments."""
        kubernetes, scaling = self.settings.kubernetes, self.settings.scaling
        return Scaling(
            Cluster(kubernetes.api_url, kubernetes.account_dir),
            release=kubernetes.release,
            max_replicas=scaling.max_replicas,
            enabled=scaling.enabled,
        )

    @cached_property
    def registry(self) -> Registry:
        """The registry of workers."""
        return Registry(self.redis, self.keys, expires_seconds=self.settings.registry.expires_seconds)

    @cached_property
    def probe_registry(self) -> Registry:
        """The same registry for those who cannot wait."""
        return Registry(self.probe_redis, self.keys, expires_seconds=self.settings.registry.expires_seconds)

    @property
    def task_names(self) -> list[str]:
        """The tasks of the workloads, without Celery's own."""
        return sorted(name for name in self.tasks if not name.startswith("celery."))

    def route(self, name: str, *_args: Any, **_kwargs: Any) -> Mapping[str, str] | None:  # noqa: ANN401 - Celery's router
        """Choose the queue of a task: the one its workload names for it, else the workload's first."""
        module = getattr(self.tasks.get(name), "__module__", None)
        for workload in self.workloads:
            if name in workload.routes:
                return {"queue": workload.routes[name]}
            if module in workload.tasks and workload.queues:
                return {"queue": workload.queues[0].name}
        return None

    def queue(self, name: str) -> Queue:
        """Find a queue by its name.

        Raises:
            ConfigurationError: no workload and no setting names it.
        """
        for queue in self.queues:
            if queue.name == name:
                return queue
        known = ", ".join(sorted(queue.name for queue in self.queues))
        msg = f"--queue: no queue {name!r}; known are {known}; CELERIAC_QUEUES adds others"
        raise ConfigurationError(msg)

    def _task_from_fun(  # type: ignore[override]
        self,
        fun: Any,  # noqa: ANN401 - Celery's signature
        name: str | None = None,
        base: type[celery.Task[..., Any]] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        return super()._task_from_fun(fun, name=name, base=base and on_task(base), **options)

    def load_tasks(self) -> None:
        """Import the task modules of all workloads.

        Raises:
            ConfigurationError: one cannot be imported, or has a task of a class that would lose what a lease is for.
        """
        for workload in self.workloads:
            for module in workload.tasks:
                workload.load(module)
        self.finalize(auto=True)
        for task in self.tasks.values():
            check_class(task)
