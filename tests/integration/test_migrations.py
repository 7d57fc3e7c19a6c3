"""Migrations: they make what the models say, once, and can be gone back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from celeriac import Workload
from celeriac.database import Base, Database
from celeriac.database.migrate import Migrations
from celeriac.errors import ConfigurationError
from celeriac.workload import load_workloads

BUILT_IN = ("workloads.data_sync", "workloads.examples")

FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "family_1", None, ("family",), None

def upgrade():
    op.create_table("family_parent", sa.Column("id", sa.Integer, primary_key=True))
    op.create_table(
        "family_child",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("family_parent.id", ondelete="CASCADE")),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "family_2", "family_1", None, None

def upgrade():
    with op.batch_alter_table("family_parent", recreate="always") as table:
        table.add_column(sa.Column("name", sa.Text))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def workloads() -> tuple[Workload, ...]:
    return load_workloads(BUILT_IN)


def differences(url: str) -> list[object]:
    """What Alembic would change to get from the database to the models of library and built-in workloads."""
    own = {name for name in Base.metadata.tables if name.startswith(("celeriac_", "data_sync_"))}

    def only_own(item: object, name: str | None, kind: str, reflected: bool, *_: object) -> bool:
        return kind != "table" or name in own or (reflected and not name.startswith("alembic_version"))

    database = Database(url)
    with database.engine.connect() as connection:
        options = {"include_object": only_own, "compare_type": True, "compare_server_default": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    database.engine.dispose()
    return found


def tables(url: str) -> set[str]:
    database = Database(url)
    names = set(inspect(database.engine).get_table_names())
    database.engine.dispose()
    return names


def test_the_migrations_make_exactly_what_the_models_say(url: str, workloads: tuple[Workload, ...]):
    assert Migrations(url, workloads).upgrade() != []
    assert differences(url) == []


def test_a_second_upgrade_does_nothing(url: str, workloads: tuple[Workload, ...]):
    Migrations(url, workloads).upgrade()
    assert Migrations(url, workloads).upgrade() == []
    assert differences(url) == []


def test_a_database_can_go_back_to_nothing_and_forward_again(url: str, workloads: tuple[Workload, ...]):
    migrations = Migrations(url, workloads)
    applied = migrations.upgrade()
    with migrations._locked() as connection:
        for branch in migrations._branches:
            command.downgrade(branch.config(connection), "base")
    assert tables(url) == {"alembic_version_celeriac", "alembic_version_data_sync"}
    assert sorted(migrations.upgrade()) == sorted(applied)
    assert differences(url) == []


def test_those_who_upgrade_at_the_same_time_all_succeed_and_one_does_the_work(
    url: str, workloads: tuple[Workload, ...]
):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: Migrations(url, workloads).upgrade(), range(4)))
    assert sum(1 for applied in done if applied) == 1
    assert differences(url) == []


def test_a_workload_that_is_no_longer_loaded_stands_in_nobodys_way(url: str, workloads: tuple[Workload, ...]):
    Migrations(url, workloads).upgrade()
    without = Migrations(url, [])
    assert without.missing() == []
    assert without.upgrade() == []
    assert Migrations(url, workloads).missing() == []


def test_an_older_release_takes_a_newer_database_as_it_is(url: str, workloads: tuple[Workload, ...]):
    migrations = Migrations(url, workloads)
    migrations.upgrade()
    database = Database(url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version_data_sync SET version_num = 'data_sync_9999'"))
    assert migrations.missing() == [], "what waits for the migration goes on after a rollback"
    assert migrations.upgrade() == []
    with database.read() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version_data_sync")) == "data_sync_9999"
    database.engine.dispose()


def test_what_waits_for_the_migration_waits_until_it_has_run(url: str, workloads: tuple[Workload, ...]):
    migrations = Migrations(url, workloads)
    assert len(migrations.missing()) == 2
    with pytest.raises(ConfigurationError, match="celeriac migrate"):
        migrations.wait_until_current(0)
    migrations.upgrade()
    migrations.wait_until_current(0)


def test_a_workload_that_joins_later_gets_its_tables_then(url: str, workloads: tuple[Workload, ...]):
    Migrations(url, []).upgrade()
    assert not any(name.startswith("data_sync_") for name in tables(url))
    Migrations(url, workloads).upgrade()
    assert differences(url) == []


def test_changing_a_table_on_sqlite_keeps_the_rows_that_refer_to_it(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "family" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "0001_first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    family = Workload(name="family", tasks=[], migrations="family.migrations")
    Migrations(sqlite_url, [family]).upgrade()
    database = Database(sqlite_url)
    with database.write() as session:
        session.execute(text("INSERT INTO family_parent VALUES (1)"))
        session.execute(text("INSERT INTO family_child VALUES (1, 1)"))
    (folder / "0002_second.py").write_text(SECOND)
    assert Migrations(sqlite_url, [family]).upgrade() == ["family_2"]
    with database.write() as session:
        assert session.execute(text("SELECT id, parent_id FROM family_child")).all() == [(1, 1)]
        session.execute(text("DELETE FROM family_parent"))
    with database.read() as session:
        assert session.execute(text("SELECT * FROM family_child")).all() == [], "constraints hold afterwards"
    database.engine.dispose()
