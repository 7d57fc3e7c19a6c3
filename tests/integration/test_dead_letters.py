"""Messages that nobody can bring to an end, with real workers: they are given up, and hold nobody else up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chord

from celeriac import CeleriacApp
from tests.platform import Platform, wait_for

INIT = """
from celeriac import Queue, Workload
workload = Workload(
    name="deadly",
    queues=[Queue("deadly"), Queue("deadlier", max_deliveries=2)],
    tasks=["deadly.tasks"],
    routes={"deadly.kill_soon": "deadlier"},
)
"""
TASKS = """
import os, time
from pathlib import Path
from celery import shared_task
from celery.exceptions import Reject

FOLDER = Path(os.environ["DEADLY_FOLDER"])

def note(line):
    with (FOLDER / "ledger").open("a") as ledger:
        ledger.write(line + "\\n")

def die(name):
    note(name)
    if not (FOLDER / "fixed").exists():
        os.kill(os.getpid(), 9)
    return "alive"

@shared_task(name="deadly.kill")
def kill():
    return die("kill")

@shared_task(name="deadly.kill_soon")
def kill_soon():
    return die("kill_soon")

@shared_task(name="deadly.reject")
def reject():
    raise Reject("I will not", requeue=False)

@shared_task(name="deadly.fail", acks_on_failure_or_timeout=False)
def fail():
    raise ValueError("no way")

@shared_task(name="deadly.harmless")
def harmless(number=0):
    return number

@shared_task(name="deadly.sum")
def add_up(numbers):
    return sum(numbers)

@shared_task(name="deadly.errback")
def errback(request, error, traceback):
    note(f"errback {request.id} {type(error).__name__}")
"""


@pytest.fixture
def deadly(tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform with tasks that kill the process they run in, and its API."""
    package = tmp_path / "elsewhere" / "deadly"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(INIT)
    (package / "tasks.py").write_text(TASKS)
    platform.environment |= {
        "PYTHONPATH": str(package.parent),
        "CELERIAC_WORKLOADS": "deadly",
        "DEADLY_FOLDER": str(tmp_path),
    }
    platform.start_api()
    return platform


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def publisher(redis_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    """Publishes whatever it is told, as it knows none of these tasks."""
    return make_app(redis_url=redis_url, workloads=("workloads.examples",), queues=("deadly", "deadlier"))


def send(publisher: CeleriacApp, name: str, queue: str, *args: object, **kwargs: object) -> str:
    return str(publisher.send_task(name, args, kwargs, queue=queue).id)


def ledger(platform: Platform) -> list[str]:
    path = platform.folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def letters(platform: Platform, **wanted: str) -> list[dict[str, Any]]:
    answer = platform.http.get("/admin/dead-letters", params=wanted)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def wait_for_letter(platform: Platform, timeout_seconds: float = 60, **wanted: str) -> dict[str, Any]:
    return wait_for(lambda: letters(platform, **wanted), f"a dead letter {wanted}", timeout_seconds)[0]


def start_worker(platform: Platform, queue: str, pool: str = "prefork") -> subprocess.Popen[bytes]:
    return platform.start("worker", f"--queue={queue}", "--concurrency=2", f"--pool={pool}")


def test_a_task_that_kills_its_process_is_given_up_after_five_runs_while_others_go_on(
    deadly: Platform, publisher: CeleriacApp
):
    worker = start_worker(deadly, "deadly")
    others = [send(publisher, "deadly.harmless", "deadly", number) for number in range(20)]
    killer = send(publisher, "deadly.kill", "deadly")
    others += [send(publisher, "deadly.harmless", "deadly", number) for number in range(20, 40)]

    failed = deadly.wait(killer)
    assert failed["state"] == "FAILURE"
    assert failed["error"].startswith("DeadLettered: delivered 5 times without an end: WorkerLostError(")
    assert "signal 9" in failed["error"]
    assert [deadly.wait(task_id)["result"] for task_id in others] == list(range(40))
    assert ledger(deadly) == ["kill"] * 5
    assert worker.poll() is None

    letter = wait_for_letter(deadly, queue="deadly")
    assert (letter["task_id"], letter["task"], letter["queue"]) == (killer, "deadly.kill", "deadly")
    assert (letter["reason"], letter["deliveries"]) == ("delivered 5 times without an end", 5)
    assert "signal 9" in letter["error"]
    assert letter["worker"]
    shown = deadly.http.get(f"/admin/dead-letters/{letter['tag']}").json()
    assert (shown["args"], shown["kwargs"]) == ([], {})
    assert json.loads(shown["message"])["headers"]["id"] == killer


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_a_task_that_kills_its_worker_is_given_up_after_as_many_runs_as_its_queue_allows(
    deadly: Platform, publisher: CeleriacApp, pool: str
):
    """What runs beside it in the same process dies with it, and counts as well."""
    killer = send(publisher, "deadly.kill_soon", "deadlier")
    workers = [start_worker(deadly, "deadlier", pool)]

    def settled() -> bool:
        if workers[-1].poll() is not None:  # as whoever started it would do
            workers.append(start_worker(deadly, "deadlier", pool))
        return bool(letters(deadly))

    wait_for(settled, "the task to be given up", 120)
    start_worker(deadly, "deadlier", pool)
    assert deadly.task(killer)["state"] == "FAILURE"
    assert "its worker ended with SIGKILL" in deadly.task(killer)["error"]
    other = send(publisher, "deadly.harmless", "deadlier", 3)
    assert deadly.wait(other)["result"] == 3
    assert ledger(deadly) == ["kill_soon"] * 2
    assert letters(deadly)[0]["deliveries"] == 2


def test_a_task_whose_worker_vanishes_each_time_is_given_up_by_another_process(
    deadly: Platform, publisher: CeleriacApp, client: redis.Redis
):
    """No worker is left to say it: a keeper of the API finds the lease ended."""
    killer = send(publisher, "deadly.kill", "deadlier")
    publisher.leases.claim(["deadlier"], 1, marks_starts=False)
    wait_for(lambda: client.llen("deadlier") == 1, "the first delivery to be returned", 20)
    assert deadly.task(killer)["state"] == "PENDING"
    publisher.leases.claim(["deadlier"], 1, marks_starts=False)
    letter = wait_for_letter(deadly, 20)
    assert (letter["deliveries"], letter["error"]) == (2, "its worker stopped renewing the lease")
    assert deadly.wait(killer)["state"] == "FAILURE"


def test_a_task_that_no_worker_knows_is_given_up_at_once(deadly: Platform, publisher: CeleriacApp):
    start_worker(deadly, "deadly")
    unknown = send(publisher, "deadly.renamed", "deadly", 1, two=2)
    failed = deadly.wait(unknown)
    assert failed["state"] == "FAILURE"
    assert "no worker knows task 'deadly.renamed'" in failed["error"]
    letter = wait_for_letter(deadly, task="deadly.renamed", reason="knows")
    assert (letter["task_id"], letter["deliveries"]) == (unknown, 0)
    shown = deadly.http.get(f"/admin/dead-letters/{letter['tag']}").json()
    assert (shown["args"], shown["kwargs"]) == ([1], {"two": 2})
    assert deadly.wait(deadly.submit("deadly.harmless", 5))["result"] == 5


def test_what_a_task_rejects_is_a_dead_letter(deadly: Platform):
    start_worker(deadly, "deadly")
    rejected, failed = deadly.submit("deadly.reject"), deadly.submit("deadly.fail")
    for task_id, error in ((rejected, "Reject: I will not"), (failed, "ValueError: no way")):
        task = deadly.wait(task_id)
        assert task["state"] == "FAILURE"
        assert task["error"].startswith(error)
    wait_for(lambda: len(letters(deadly)) == 2, "two dead letters")
    told = {letter["task_id"]: (letter["reason"], letter["error"]) for letter in letters(deadly)}
    assert told[failed] == ("rejected", "ValueError('no way')")
    assert told[rejected][0] == "rejected"
    assert "I will not" in told[rejected][1]


def test_what_is_replayed_after_the_repair_runs_with_all_its_deliveries_before_it(
    deadly: Platform, publisher: CeleriacApp, client: redis.Redis
):
    start_worker(deadly, "deadlier")
    killer = send(publisher, "deadly.kill_soon", "deadlier")
    letter = wait_for_letter(deadly)
    shown = deadly.run("dead-letters", "show", letter["tag"], "--json")
    assert json.loads(shown.stdout)["task_id"] == killer

    again = deadly.run("dead-letters", "replay", letter["tag"])
    assert (again.returncode, again.stdout) == (0, "1 replayed\n")
    second = wait_for(lambda: [new for new in letters(deadly) if new["tag"] != letter["tag"]], "it to die again")[0]
    assert (second["task_id"], second["deliveries"]) == (killer, 2), "counted anew"
    assert ledger(deadly) == ["kill_soon"] * 4
    assert deadly.wait(killer)["state"] == "FAILURE"

    (deadly.folder / "fixed").touch()
    answer = deadly.http.post(f"/admin/dead-letters/{second['tag']}/replay")
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json()["status_url"] == f"/tasks/{killer}"
    done = deadly.wait(killer)
    assert (done["state"], done["result"]) == ("SUCCESS", "alive")
    assert "error" not in done
    assert letters(deadly) == []
    assert client.llen("celeriac:dead:deadlier") == 0


def test_the_chord_of_a_part_that_is_given_up_fails_and_errbacks_are_called(deadly: Platform, publisher: CeleriacApp):
    start_worker(deadly, "deadly")
    start_worker(deadly, "deadlier")
    signature, errback = publisher.signature, publisher.signature("deadly.errback")
    parts = [
        signature("deadly.harmless", (1,), queue="deadly"),
        signature("deadly.kill_soon", queue="deadlier", link_error=[errback]),
    ]
    body = signature("deadly.sum", queue="deadly")
    error = chord(parts, app=publisher)(body).get(timeout=60, propagate=False)
    assert type(error).__name__ == "ChordError"
    assert "delivered 2 times without an end" in str(error)
    killer = wait_for_letter(deadly)["task_id"]
    told = wait_for(lambda: [line for line in ledger(deadly) if line.startswith("errback")], "the errback", 10)
    assert told == [f"errback {killer} DeadLettered"]


def test_commands_end_with_codes_for_scripts(deadly: Platform, publisher: CeleriacApp):
    start_worker(deadly, "deadly")
    for number in range(3):
        send(publisher, "deadly.renamed", "deadly", number)
        send(publisher, "deadly.removed", "deadly", number)
    wait_for(lambda: len(letters(deadly)) == 6, "six dead letters")

    def run(*arguments: str) -> tuple[int, Any]:
        ended = deadly.run("dead-letters", *arguments, "--json")
        return ended.returncode, json.loads(ended.stdout) if ended.returncode == 0 else ended.stderr

    code, listed = run("list", "--task", "deadly.removed")
    assert code == 0
    assert [letter["task"] for letter in listed] == ["deadly.removed"] * 3
    assert len(run("list", "--limit", "4")[1]) == 4
    assert run("drop", "--all", "--task", "deadly.removed", "--queue", "deadly") == (0, {"dropped": 3})
    assert run("drop", "--all", "--task", "deadly.removed") == (0, {"dropped": 0})
    code, error = run("drop", listed[0]["tag"])
    assert code == 1
    assert f"404 Not found: no dead letter {listed[0]['tag']}" in error
    tags = [letter["tag"] for letter in run("list")[1]]
    assert run("drop", *tags[:2]) == (0, {"dropped": 2})
    for wrong in (["drop"], ["replay"], ["replay", "--all", tags[2]], ["drop", tags[2], "--queue", "deadly"]):
        assert run(*wrong)[0] == 2, wrong
    assert [letter["tag"] for letter in letters(deadly)] == tags[2:]
    table = deadly.run("dead-letters", "list")
    assert tags[2] in table.stdout
    assert "reason" in table.stdout
