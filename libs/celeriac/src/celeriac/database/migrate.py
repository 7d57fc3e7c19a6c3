"""Migrations: an Alembic branch for the library and one for each workload.

A workload that has models but no `migrations=` is fine for a first try: its tables are made on SQLite. On PostgreSQL
it is refused, for a table that was made without a migration can never be changed by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import structlog
from alembic import command
from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import OperationalError

from celeriac.database.base import Base
from celeriac.database.branch import Branch
from celeriac.database.engine import WRITES, Database
from celeriac.errors import ConfigurationError, InvalidInput
from celeriac.workload import Workload

log = structlog.get_logger(__name__)

_HERE = Path(__file__).parent

#: Where the library's own tables are; named rather than imported, for they stand above this package.
LIBRARY_MODELS = ("celeriac.storage.database", "celeriac.access")

#: Any constant will do: several processes that migrate at once queue up on it.
_ADVISORY_LOCK = 0x43454C45


class Migrations:
    """The migrations of a database and a set of workloads.

    Args:
        database_url: where to migrate.
        workloads: whose models; the library's own always come along.

    Raises:
        ConfigurationError: a workload's models or migrations cannot be imported.
    """

    def __init__(self, database_url: str, workloads: Iterable[Workload]) -> None:
        self._database = Database(database_url)
        self._workloads = tuple(workloads)
        for module in LIBRARY_MODELS:
            import_module(module)
        self._branches = [Branch("celeriac", _HERE / "migrations")]
        self._branches += [
            Branch(workload.name, _folder(workload.migrations)) for workload in self._workloads if workload.migrations
        ]
        self._unmigrated: list[tuple[Workload, list[Table]]] = []
        for workload in self._workloads:
            if workload.models and workload.load(workload.models) and workload.migrations is None:
                self._unmigrated.append((workload, _tables(workload.models)))

    def upgrade(self) -> list[str]:
        """Apply what is missing.

        Returns:
            The revisions that were applied, oldest first, and tables that were made without one.

        Raises:
            ConfigurationError: a workload has models without migrations, and the database is no SQLite one.
        """
        if self._unmigrated and not self._database.is_sqlite:
            workload = self._unmigrated[0][0]
            msg = (
                f"workload {workload.name} has models but no migrations: make an empty package and name it in "
                f'migrations="…", then run `celeriac migrate new {workload.name} -m "first tables"`'
            )
            raise ConfigurationError(msg)
        applied: list[str] = []
        with self._locked() as connection:
            for branch in self._branches:
                if branch.unknown(connection):
                    log.warning("database_ahead", branch=branch.name, revisions=sorted(branch.current(connection)))
                else:
                    applied += branch.upgrade(connection)
            for _, tables in self._unmigrated:
                Base.metadata.create_all(connection, tables=tables)
        return applied

    def missing(self) -> list[str]:
        """The heads that the database has not reached; one that is ahead of this code, as after a rollback, lacks none.

        Raises:
            OperationalError: the database does not answer.
        """
        with self._database.engine.connect() as connection:
            return [head for branch in self._branches for head in branch.missing(connection)]

    def wait_for_database(self, timeout_seconds: float) -> None:
        """Wait until the database answers.

        Raises:
            ConfigurationError: it did not in the time given.
        """

        def answers() -> bool:
            self.missing()
            return True

        self._wait(answers, timeout_seconds, "the database does not answer")

    def wait_until_current(self, timeout_seconds: float) -> None:
        """Wait until somebody else has applied every migration.

        Raises:
            ConfigurationError: nobody did in the time given.
        """
        self._wait(
            lambda: not self.missing(), timeout_seconds, "the database is not up to date; run `celeriac migrate`"
        )

    def _wait(self, condition: Callable[[], bool], timeout_seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout_seconds
        reason = ""
        while True:
            try:
                if condition():
                    return
                reason = ""
            except OperationalError as error:
                reason = f": {error.orig}"
            if time.monotonic() >= deadline:
                msg = f"after {timeout_seconds:g} s {complaint}{reason}"
                raise ConfigurationError(msg)
            time.sleep(1)

    def new(self, workload_name: str, message: str) -> Path:
        """Write a migration with the difference between a workload's models and the database.

        Returns:
            The new file.

        Raises:
            InvalidInput: there is no such workload.
            ConfigurationError: the workload says no place for migrations.
        """
        workload = next((workload for workload in self._workloads if workload.name == workload_name), None)
        if workload is None:
            known = ", ".join(workload.name for workload in self._workloads)
            raise InvalidInput("workload", workload_name, f"no such workload; known are {known}")
        if workload.migrations is None or workload.models is None:
            msg = f'workload {workload.name}: say models="…" and migrations="…" (a package) in its Workload(...) first'
            raise ConfigurationError(msg)
        own = {table.name for table in _tables(workload.models)}

        def only_own(item: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:  # noqa: ANN401, FBT001
            return name in own if kind == "table" else item.table.name in own

        branch = Branch(workload.name, _folder(workload.migrations))
        with self._locked() as connection:
            config = branch.config(connection)
            config.attributes["include_object"] = only_own
            script = command.revision(config, message=message, autogenerate=True)
        first = script[0] if isinstance(script, list) else script
        if first is None:
            msg = "Alembic wrote no migration"
            raise ConfigurationError(msg)
        return Path(first.path)

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        # On SQLite the lock is the writer's, from the start: a reader that turns writer fails where another was faster.
        with self._database.engine.execution_options(**{WRITES: True}).connect() as connection:
            if self._database.is_sqlite:
                # Changing a table makes a new one and drops the old, which would delete the rows that refer to it.
                connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
            else:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
                connection.commit()
            try:
                yield connection
                connection.commit()
            finally:
                connection.rollback()
                if not self._database.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
                    connection.commit()
        self._database.engine.dispose()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        msg = f"migrations={package!r} is no package; make a folder with an empty __init__.py"
        raise ConfigurationError(msg)
    return Path(next(iter(spec.submodule_search_locations)))


def _tables(models: str) -> list[Table]:
    """The tables of the classes that a module, or one below it, defines."""
    classes = [mapper.class_ for mapper in Base.registry.mappers]
    inside = [cls for cls in classes if f"{cls.__module__}.".startswith(f"{models}.")]
    return [cast("Table", cls.__table__) for cls in inside]
