"""What a workload says of itself, and how the platform finds it.

    # my_workload/__init__.py
    from celeriac import Queue, Workload

    workload = Workload(name="my_workload", queues=[Queue("my_queue", concurrency=2)], tasks=["my_workload.tasks"])

Importing such a package must stay cheap and free of side effects: each process imports only the modules it needs
(the API routers and tasks, a worker tasks, Beat schedules), and a module that cannot be imported is named in the error.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from celeriac.errors import ConfigurationError
from celeriac.rate import Rate

#: Where tasks go that no workload claims.
DEFAULT_QUEUE = "default"

#: Installed packages announce their workloads in this entry point group.
ENTRY_POINTS = "celeriac.workloads"

#: Deliveries that are started and come to no end before a message becomes a dead letter, where its queue sets no other.
MAX_DELIVERIES = 5

# Kubernetes object names come from queue names, with "-" for "_".
_NAME = re.compile(r"[a-z](?:[a-z0-9_]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Queue:
    """A queue and how it is worked.

    Args:
        name: lower-case letters, digits and `_`, a letter first and no `_` last, at most 40 characters.
        concurrency: slots, that is tasks that run at a time, of one worker.
        max_deliveries: how often a task may be started without coming to an end, since its worker was killed or has
            returned it, before its message becomes a dead letter.
        max_length: messages, delayed ones included, from which on the API refuses further submits with status 429;
            None for no limit.
    """

    name: str
    concurrency: int = 2
    max_deliveries: int = MAX_DELIVERIES
    max_length: int | None = None

    def __post_init__(self) -> None:
        check_queue_name(self.name)
        for name in ("concurrency", "max_deliveries", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"queue {self.name}: {name} must be at least 1 (got {value!r})"
                raise ConfigurationError(msg)


@dataclass(frozen=True)
class Workload:
    """One kind of work: its queues and the modules that hold its parts.

    Args:
        name: the name it is known by in errors, migrations and documentation.
        tasks: modules with `celery.shared_task` functions.
        queues: its queues; tasks go to the first. Without any, they go to `default`.
        routes: the queues of tasks that go elsewhere, by task name.
        routers: modules with a FastAPI `router`, mounted in the API behind its authentication.
        schedule: a module with an `entries` mapping, in the form of Celery's `beat_schedule`.
        models: a module with SQLAlchemy models on `celeriac.database.Base`.
        migrations: a package of Alembic migrations, a branch of its own.
        rate_limits: how often tasks may be submitted over the API and from asyncio, by task name, such as `10/s`,
            `600/m` or `1000/h`; more is refused with status 429. `CELERIAC_RATE_LIMITS` sets others.
    """

    name: str
    tasks: Sequence[str]
    queues: Sequence[Queue] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    routers: Sequence[str] = ()
    schedule: str | None = None
    models: str | None = None
    migrations: str | None = None
    rate_limits: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task, text in self.rate_limits.items():
            try:
                Rate.parse(text)
            except ValueError as error:
                msg = f"workload {self.name}: rate_limits[{task!r}]: {error}"
                raise ConfigurationError(msg) from None

    def schedule_entries(self) -> Mapping[str, Mapping[str, Any]]:
        """Import and return the periodic entries.

        Raises:
            ConfigurationError: the module cannot be imported or has no `entries`.
        """
        if self.schedule is None:
            return {}
        entries = getattr(self.load(self.schedule), "entries", None)
        if not isinstance(entries, Mapping):
            msg = f"workload {self.name}: schedule={self.schedule!r} has no mapping named `entries`"
            raise ConfigurationError(msg)
        return entries

    def load(self, module: str) -> ModuleType:
        """Import one of its modules.

        Raises:
            ConfigurationError: it cannot be imported; the cause is chained.
        """
        return _import(module, f"workload {self.name}")


def load_workloads(paths: Iterable[str] | None) -> tuple[Workload, ...]:
    """Find the workloads of this process.

    Args:
        paths: import paths of packages that export `workload`; None for all that are installed.

    Raises:
        ConfigurationError: a path cannot be imported or exports no `workload`, or two workloads clash.
    """
    if paths is None:
        paths = sorted(point.value for point in entry_points(group=ENTRY_POINTS))
    workloads = tuple(_load(path) for path in paths)
    _refuse_clashes("workload", [(workload.name, workload) for workload in workloads])
    _refuse_clashes("queue", [(queue.name, workload) for workload in workloads for queue in workload.queues])
    return workloads


def queues_of(workloads: Iterable[Workload], further: Iterable[str] = ()) -> tuple[Queue, ...]:
    """All queues: the workloads', `default` where a workload has none, and further ones by name.

    Raises:
        ConfigurationError: a further one cannot be a queue's name.
    """
    queues: dict[str, Queue] = {}
    for workload in workloads:
        for queue in workload.queues or (Queue(DEFAULT_QUEUE),):
            queues.setdefault(queue.name, queue)
    for name in further:
        check_queue_name(name, "CELERIAC_QUEUES: ")
        queues.setdefault(name, Queue(name))
    return tuple(queues.values()) or (Queue(DEFAULT_QUEUE),)


def rate_limits_of(
    workloads: Iterable[Workload], others: Mapping[str, str | None], known: Collection[str]
) -> dict[str, Rate]:
    """How often tasks may be submitted, by name; of those that have a limit.

    Args:
        workloads: which may declare limits.
        others: limits that go before theirs; None for no limit.
        known: the names of all tasks.

    Raises:
        ConfigurationError: a limit is one of no task.
    """
    limits: dict[str, str | None] = {}
    sources = [(f"workload {workload.name}: rate_limits", workload.rate_limits) for workload in workloads]
    for where, given in [*sources, ("CELERIAC_RATE_LIMITS", others)]:
        for name in given:
            if name not in known:
                msg = f"{where}: no such task {name!r}; known are {', '.join(known)}"
                raise ConfigurationError(msg)
        limits |= given
    return {name: Rate.parse(text) for name, text in limits.items() if text is not None}


def check_queue_name(name: str, where: str = "") -> None:
    """Refuse a name that could not be a queue's everywhere.

    Args:
        name: the name.
        where: what the error begins with.

    Raises:
        ConfigurationError: it has other characters or is too long.
    """
    if not _NAME.fullmatch(name):
        msg = (
            f"{where}queue {name!r}: use lower-case letters, digits and _, "
            "a letter first and no _ last, at most 40 characters"
        )
        raise ConfigurationError(msg)


def _load(path: str) -> Workload:
    workload = getattr(_import(path, "CELERIAC_WORKLOADS"), "workload", None)
    if not isinstance(workload, Workload):
        msg = f"CELERIAC_WORKLOADS: {path} exports no `workload`; it needs `workload = celeriac.Workload(...)`"
        raise ConfigurationError(msg)
    return workload


def _import(module: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = f"{where}: cannot import {module!r}: {error}; is it installed or on PYTHONPATH?"
        raise ConfigurationError(msg) from error


def _refuse_clashes(kind: str, named: Iterable[tuple[str, Workload]]) -> None:
    seen: dict[str, Workload] = {}
    for name, workload in named:
        if name in seen:
            msg = f"{kind} {name!r} is declared twice, by workloads {seen[name].name!r} and {workload.name!r}"
            raise ConfigurationError(msg)
        seen[name] = workload
