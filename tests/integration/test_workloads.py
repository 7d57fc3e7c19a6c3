"""A workload that this repository has never seen works with all commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform import Platform, wait_for
from tests.up import Up

INIT = """
from celeriac import Queue, Workload
workload = Workload(
    name="my_workload",
    queues=[Queue("my_queue", concurrency=1)],
    tasks=["my_workload.tasks"],
    routers=["my_workload.routes"],
    schedule="my_workload.schedule",
    models="my_workload.models",
)
"""
TASKS = """
import os, time
from celery import shared_task
from my_workload.models import Note

@shared_task
def write(text, seconds=0):
    time.sleep(seconds)
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(text + "\\n")

@shared_task(bind=True)
def note(self, text):
    with self.platform.database.write() as session:
        session.add(Note(text=text))
"""
ROUTES = """
from fastapi import APIRouter, Request
from sqlalchemy import select
from my_workload.models import Note

router = APIRouter(prefix="/notes")

@router.get("")
def notes(request: Request) -> list[str]:
    with request.app.state.celeriac.database.read() as session:
        return list(session.scalars(select(Note.text)))
"""
SCHEDULE = 'entries = {"tick": {"task": "my_workload.tasks.write", "schedule": 1.0, "args": ["tick"]}}\n'
MODELS = """
from celeriac.database import Base
from sqlalchemy.orm import Mapped, mapped_column

class Note(Base):
    __tablename__ = "my_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
"""


@pytest.fixture
def outside(tmp_path: Path, platform: Platform) -> Platform:
    """A platform whose only workload lies outside the repository."""
    package = tmp_path / "elsewhere" / "my_workload"
    package.mkdir(parents=True)
    parts = {"__init__": INIT, "tasks": TASKS, "routes": ROUTES, "schedule": SCHEDULE, "models": MODELS}
    for name, text in parts.items():
        (package / f"{name}.py").write_text(text)
    platform.environment |= {
        "PYTHONPATH": str(package.parent),
        "CELERIAC_WORKLOADS": "my_workload",
        "LEDGER": str(tmp_path / "ledger"),
    }
    return platform


def ledger(platform: Platform) -> list[str]:
    path = platform.folder / "ledger"
    return path.read_text().split() if path.exists() else []


def test_its_tasks_routes_and_models_are_used(outside: Platform):
    outside.start_api()
    outside.start_worker("my_queue")
    task = outside.wait(outside.submit("my_workload.tasks.note", "hello"))
    assert (task["state"], task["queue"]) == ("SUCCESS", "my_queue")
    assert outside.http.get("/notes").json() == ["hello"]
    assert outside.http.get("/notes", headers={"Authorization": ""}).status_code == 401, "routes are guarded"


def test_beat_sends_its_schedule(outside: Platform):
    outside.start_api()
    outside.start_worker("my_queue")
    outside.start("beat")
    wait_for(lambda: ledger(outside).count("tick") >= 2, "two ticks")


def test_the_whole_platform_runs_it(outside: Platform, tmp_path: Path):
    names = ("PYTHONPATH", "CELERIAC_WORKLOADS", "LEDGER")
    with Up(tmp_path, **{name: outside.environment[name] for name in names}) as up:
        up.wait_until_ready()
        assert up.http.get("/health").json()["checks"]["workers"] == {"my_queue": 1}
        task = up.http.post("/tasks", json={"name": "my_workload.tasks.note", "args": ["hello"]}).json()
        wait_for(lambda: up.http.get(task["status_url"]).json()["state"] == "SUCCESS", "the task to succeed")
        assert up.http.get("/notes").json() == ["hello"]
        wait_for(lambda: "tick" in ledger(outside), "Beat to tick")


def test_the_most_urgent_message_runs_first_and_an_explicit_0_last(outside: Platform):
    outside.start_api()
    for priority in (0, 5, 9, None, 1, 8):
        options = {} if priority is None else {"priority": priority}
        outside.submit("my_workload.tasks.write", str(priority), **options)
    outside.start_worker("my_queue", concurrency=1)
    wait_for(lambda: len(ledger(outside)) == 6, "all six")
    assert ledger(outside) == ["9", "8", "5", "None", "1", "0"]


def test_a_module_that_cannot_be_imported_is_named(outside: Platform):
    outside.environment["CELERIAC_WORKLOADS"] = "my_workload,not_there"
    failed = outside.run("worker", "my_queue")
    assert failed.returncode == 1
    assert "cannot import 'not_there'" in failed.stderr
    assert "PYTHONPATH" in failed.stderr


def test_models_without_migrations_are_refused_on_postgresql(outside: Platform, postgres_url: str):
    outside.environment["DATABASE_URL"] = postgres_url
    failed = outside.run("migrate")
    assert failed.returncode == 1
    assert "celeriac migrate new my_workload" in failed.stderr


def test_a_migration_is_made_and_applied(outside: Platform, postgres_url: str):
    package = outside.folder / "elsewhere" / "my_workload"
    (package / "migrations").mkdir()
    (package / "migrations" / "__init__.py").touch()
    (package / "__init__.py").write_text(
        INIT.replace('models="my_workload.models"', 'models="my_workload.models", migrations="my_workload.migrations"')
    )
    outside.environment["DATABASE_URL"] = postgres_url
    assert outside.run("migrate").returncode == 0
    made = outside.run("migrate", "new", "my_workload", "-m", "first tables")
    assert made.returncode == 0, made.stderr
    text = Path(made.stdout.strip().splitlines()[-1]).read_text()
    assert "create_table('my_note'" in text
    assert "data_sync" not in text
    applied = outside.run("migrate")
    assert applied.returncode == 0, applied.stderr
    assert "applied" in applied.stdout
    assert "nothing to do" in outside.run("migrate").stdout
