"""One line of migrations with a version table of its own: the library's, or a workload's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

#: Alembic's environment and the template of new migrations.
_ENVIRONMENT = Path(__file__).parent / "alembic"


@dataclass(frozen=True)
class Branch:
    """The migrations of the library or of one workload, with a version table of their own.

    So a process knows nothing of workloads that it has not loaded, and nothing of theirs stands in its way.
    """

    name: str
    folder: Path

    def config(self, connection: Connection) -> Config:
        """Alembic's configuration for this branch on a connection."""
        config = Config()
        config.set_main_option("script_location", str(_ENVIRONMENT))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", str(self.folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = self.version_table
        return config

    @property
    def version_table(self) -> str:
        """The table that holds the revision which the database has reached."""
        return f"alembic_version_{self.name}"

    def current(self, connection: Connection) -> set[str]:
        """The revisions that the database has reached."""
        context = MigrationContext.configure(connection, opts={"version_table": self.version_table})
        return set(context.get_current_heads())

    def unknown(self, connection: Connection) -> set[str]:
        """The revisions that the database has reached and this code does not know: it is newer than the code."""
        known = {revision.revision for revision in self._scripts(connection).walk_revisions()}
        return self.current(connection) - known

    def missing(self, connection: Connection) -> list[str]:
        """The heads that the database has not reached."""
        if self.unknown(connection):
            return []
        return sorted(set(self._scripts(connection).get_heads()) - self.current(connection))

    def upgrade(self, connection: Connection) -> list[str]:
        """Apply what is missing and name it, oldest first."""
        before = self.current(connection)
        command.upgrade(self.config(connection), "heads")
        return _between(self._scripts(connection), before, sorted(self.current(connection)))

    def _scripts(self, connection: Connection) -> ScriptDirectory:
        return ScriptDirectory.from_config(self.config(connection))


def _between(scripts: ScriptDirectory, before: set[str], after: Sequence[str]) -> list[str]:
    old = {revision.revision for head in before for revision in scripts.iterate_revisions(head, "base")}
    new = [revision.revision for head in after for revision in scripts.iterate_revisions(head, "base")]
    return [revision for revision in reversed(list(dict.fromkeys(new))) if revision not in old]
