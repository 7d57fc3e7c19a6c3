"""Workloads: what may be declared, how they are found, and where their tasks go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from celery import _state as celery_state

from celeriac import CeleriacApp, Queue, Task, Workload
from celeriac.errors import ConfigurationError
from celeriac.workload import load_workloads, queues_of

TASKS = """
from celery import shared_task

@shared_task(name="{name}.one")
def one(): pass

@shared_task(name="{name}.two")
def two(): pass
"""

CLASSES = """
import celery, celeriac

class Beside(celery.Task):
    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)

class Careless(celeriac.Task):
    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)

class Careful(celeriac.Task):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)

class Plain(celery.Task):
    rate_limit = "1/s"

class Hooked(celeriac.Task):
    def before_start(self, task_id, args, kwargs):
        pass

@celery.shared_task(name="{name}.one", base={base})
def one(): pass

@celery.shared_task(name="{name}.two")
def two(): pass
"""

CLASS = """
import celery

class One(celery.Task):
    name = "classy.one"
    def run(self): pass

celery.current_app.register_task(One())
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path; the shared tasks of what lies there are those of this test alone."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(celery_state, "_on_app_finalizers", set(celery_state._on_app_finalizers))
    return tmp_path


def declare(folder: Path, name: str, workload: str) -> None:
    """Write a package `name` that exports a workload."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(f"from celeriac import Queue, Workload\nworkload = {workload}\n")
    (folder / name / "tasks.py").write_text(TASKS.format(name=name))


def queue_of(app: Celery, task: str, **options: str) -> str:
    route = app.amqp.router.route(dict(options), task)
    return str(route["queue"].name)


@pytest.mark.parametrize("name", ["a", "data_sync", "q2", "a" * 40])
def test_a_queue_has_a_plain_name(name: str):
    assert Queue(name).name == name


@pytest.mark.parametrize("name", ["", "A", "2q", "_q", "q_", "data-sync", "q:9", "q ", "q\n", "ä", "a" * 41])
def test_a_name_that_kubernetes_or_redis_could_not_use_is_refused(name: str):
    with pytest.raises(ConfigurationError) as caught:
        Queue(name)
    assert f"queue {name!r}: use lower-case letters, digits and _" in str(caught.value)


def test_a_queue_needs_a_slot():
    with pytest.raises(ConfigurationError, match=r"queue q: concurrency must be at least 1 \(got 0\)"):
        Queue("q", concurrency=0)


def test_a_message_is_delivered_five_times_at_most_unless_its_queue_says_otherwise():
    assert Queue("q").max_deliveries == 5
    assert Queue("q", max_deliveries=1).max_deliveries == 1
    with pytest.raises(ConfigurationError, match=r"queue q: max_deliveries must be at least 1 \(got 0\)"):
        Queue("q", max_deliveries=0)


def test_a_further_queue_with_a_wrong_name_is_refused_by_its_variable():
    with pytest.raises(ConfigurationError, match="CELERIAC_QUEUES: queue 'Big'"):
        queues_of([], ["Big"])


def test_two_workloads_cannot_have_one_queue(package: Path):
    declare(package, "first_of_two", 'Workload(name="first", tasks=[], queues=[Queue("shared")])')
    declare(package, "second_of_two", 'Workload(name="second", tasks=[], queues=[Queue("shared")])')
    with pytest.raises(ConfigurationError, match="queue 'shared' is declared twice, by workloads 'first' and 'second'"):
        load_workloads(["first_of_two", "second_of_two"])


def test_two_workloads_cannot_have_one_name(package: Path):
    declare(package, "one_name", 'Workload(name="same", tasks=[])')
    declare(package, "other_package", 'Workload(name="same", tasks=[])')
    with pytest.raises(ConfigurationError, match="workload 'same' is declared twice"):
        load_workloads(["one_name", "other_package"])


def test_a_package_that_cannot_be_imported_is_named_with_the_cause(package: Path):
    declare(package, "needs_more", 'Workload(name="needs_more", tasks=[])')
    (package / "needs_more" / "__init__.py").write_text("import no_such_thing")
    with pytest.raises(ConfigurationError) as caught:
        load_workloads(["needs_more"])
    assert "CELERIAC_WORKLOADS: cannot import 'needs_more': No module named 'no_such_thing'" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("content", ["None", '"my_workload"'])
def test_a_package_without_a_workload_is_refused(package: Path, content: str):
    name = f"without_{len(content)}"
    declare(package, name, content)
    with pytest.raises(ConfigurationError, match=f"{name} exports no `workload`; it needs `workload = celeriac"):
        load_workloads([name])


def test_the_installed_workloads_load_when_none_is_named():
    assert {"data_sync", "examples"} <= {workload.name for workload in load_workloads(None)}
    assert load_workloads([]) == ()


def test_default_is_a_queue_only_where_somebody_needs_it():
    without = Workload(name="without", tasks=[])
    own = Workload(name="own", tasks=[], queues=[Queue("own", concurrency=7)])
    assert queues_of([]) == (Queue("default"),)
    assert queues_of([without]) == (Queue("default"),)
    assert queues_of([own]) == (Queue("own", concurrency=7),)
    assert queues_of([own, without], ["more", "own"]) == (Queue("own", concurrency=7), Queue("default"), Queue("more"))


def test_tasks_go_to_the_first_queue_of_their_workload_unless_a_route_or_the_caller_says_otherwise(
    package: Path, make_app: Callable[..., CeleriacApp]
):
    declare(
        package,
        "routed",
        'Workload(name="routed", tasks=["routed.tasks"], queues=[Queue("main"), Queue("side")], '
        'routes={"routed.two": "side"})',
    )
    declare(package, "unrouted", 'Workload(name="unrouted", tasks=["unrouted.tasks"])')
    app = make_app(workloads=("routed", "unrouted"))
    assert queue_of(app, "routed.one") == "main"
    assert queue_of(app, "routed.two") == "side"
    assert queue_of(app, "routed.two", queue="main") == "main"
    assert queue_of(app, "unrouted.one") == "default"
    assert queue_of(app, "nobody.knows") == "default"


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("Beside", "{name}.tasks.Beside has a `__call__` of its own; override run, before_start, after_return"),
        ("Careless", "{name}.tasks.Careless has a `__call__` of its own; override run, before_start, after_return"),
        ("Careful", "{name}.tasks.Careful has a `__call__` of its own; override run, before_start, after_return"),
    ],
)
def test_a_task_that_would_run_without_asking_for_its_lease_is_refused(
    package: Path, make_app: Callable[..., CeleriacApp], base: str, reason: str
):
    name = f"called_by_{base.rpartition('.')[2].lower()}"
    declare(package, name, f'Workload(name="{name}", tasks=["{name}.tasks"])')
    (package / name / "tasks.py").write_text(CLASSES.format(name=name, base=base))
    with pytest.raises(ConfigurationError) as caught:
        make_app(workloads=(name,))
    assert str(caught.value).startswith(f"task '{name}.one': its class {reason.format(name=name)}")


def test_a_task_that_is_a_class_has_to_be_one_of_ours(package: Path, make_app: Callable[..., CeleriacApp]):
    declare(package, "classy", 'Workload(name="classy", tasks=["classy.tasks"])')
    (package / "classy" / "tasks.py").write_text(CLASS)
    with pytest.raises(ConfigurationError) as caught:
        make_app(workloads=("classy",))
    what = "its class classy.tasks.One is no celeriac.Task; derive it from celeriac.Task"
    assert str(caught.value) == f"task 'classy.one': {what}"


@pytest.mark.parametrize("base", ["Hooked", "Plain", "celery.Task"])
def test_a_task_of_any_other_class_is_loaded_and_is_one_of_ours_and_so_are_those_of_celery(
    package: Path, make_app: Callable[..., CeleriacApp], base: str
):
    name = f"based_on_{base.rpartition('.')[2].lower()}"
    declare(package, name, f'Workload(name="{name}", tasks=["{name}.tasks"])')
    (package / name / "tasks.py").write_text(CLASSES.format(name=name, base=base))
    app = make_app(workloads=(name,))
    assert {f"{name}.one", f"{name}.two"} <= set(app.task_names)
    assert isinstance(app.tasks[f"{name}.one"], Task)
    assert app.tasks[f"{name}.one"].rate_limit == ("1/s" if base == "Plain" else None)
    assert {"celery.backend_cleanup", "celery.chord", "celery.group", "celery.map"} < set(app.tasks)


def test_a_schedule_without_entries_is_refused(package: Path):
    declare(package, "unscheduled", 'Workload(name="u", tasks=[], schedule="unscheduled.tasks")')
    (workload,) = load_workloads(["unscheduled"])
    with pytest.raises(ConfigurationError, match=r"schedule='unscheduled.tasks' has no mapping named `entries`"):
        workload.schedule_entries()
