"""What SIGKILL costs: tasks lost and tasks run twice, beside Celery, dramatiq and taskiq.

`python -m benchmarks.kills` takes 15 to 40 minutes, most of them waiting for what recovers late or never; `--write`
also writes docs/benchmarks/kills.md. It needs the dependency group `rivals`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from benchmarks.arena import Arena, Maker
from benchmarks.contestants.celeriac import Celeriac
from benchmarks.contestants.celery import Celery
from benchmarks.kill_trial import WORKERS, Outcome, Trial
from benchmarks.pages import deliver, page, table
from benchmarks.rounds import conditions

RIVALS = ("dramatiq", "taskiq", "taskiq_redis")

#: Seconds after which an unfinished task of a silent worker is taken from it, where a rival lets one choose.
TIMEOUT_SECONDS = 30

INTRODUCTION = """
`python -m benchmarks.kills` queues no-op tasks, starts three workers of two slots each, and kills workers by SIGKILL to
their whole process group, each at a moment drawn at random over the run, each replaced at once. Each kill hits a worker
that has begun to work. A task appends to a file, which nobody kills; nothing is counted in Redis, which nobody kills
either.

After the last kill every contestant gets the same time to repair what was killed, or less when its broker holds
nothing any more. One more task a second is published meanwhile, and not counted, for some look for lost messages only
when new ones come. *Lost* is what was not executed by then: *stranded* where the broker still has the message, *gone*
where it is nowhere. *Twice* counts tasks that ran more than once: none of these platforms can promise that it is zero,
for a worker may die between the end of a task and its acknowledgement.
"""

CONTESTANTS = """
- **Celeriac** with its defaults.
- **Celery**: `task_acks_late`, `task_reject_on_worker_lost`, prefetch 4, `visibility_timeout` 30 s. *Restoring each
  second* sets `unacked_restore_interval` and `unacked_restore_throttle` to 1, too, by default 10 each, which means
  every 100 s.
- **dramatiq**: its Redis broker with its defaults: workers are taken for dead after 60 s, and one command in a thousand
  looks for dead ones. *Looking always* sets `maintenance_chance` so that every command does.
- **taskiq**: `RedisStreamBroker` with `idle_timeout` 30 s (by default 10 min) and `unacknowledged_lock_timeout` 30 s;
  acknowledges when the result is stored, its default. `xread_count` is its default of 100 messages at a time.
  *Reading one by one* sets it to 1.
"""


def main() -> None:
    """Run all trials and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of each contestant")
    parser.add_argument("--kills", type=int, default=30, help="kills of each contestant")
    parser.add_argument("--limit", type=float, default=300, help="seconds to recover, from the last kill")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the moments and the victims")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="contestants with this in the name")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/kills.md")
    options = parser.parse_args()
    if missing := [name for name in RIVALS if find_spec(name) is None]:
        sys.exit(f"benchmarks.kills needs {', '.join(missing)}: `uv sync --group rivals`")
    if options.only and options.write:
        sys.exit("--write writes the whole page; leave --only out")

    print(f"seed {options.seed}", flush=True)
    outcomes = {}
    with Arena() as arena:
        server = arena.version
        for name, make in _contestants().items():
            if options.only and not any(word.lower() in name.lower() for word in options.only):
                continue
            # The same seed for all: the same moments and, as far as their workers go, the same victims.
            dice = random.Random(options.seed)
            with arena.run(make) as contestant:
                trial = Trial(contestant, tasks=options.tasks, kills=options.kills, dice=dice)
                outcomes[name] = trial.run(options.limit)
            print(f"  {name}: {outcomes[name]}", flush=True)

    packages = ("celeriac", "celery", "kombu", "dramatiq", "taskiq", "taskiq-redis", "redis")
    counts = (
        f"{options.tasks:,} tasks, {options.kills} kills, {WORKERS} workers, limit {options.limit:g} s, "
        f"seed {options.seed}"
    )
    text = page(
        "Kills",
        INTRODUCTION,
        CONTESTANTS,
        f"{conditions(*packages)}, Redis server {server}\n\n{counts}",
        _table(outcomes),
    )
    deliver("kills.md", text, write=options.write)


def _contestants() -> dict[str, Maker]:
    # Imported here, for they need the rivals, whose absence has a message.
    from benchmarks.contestants.dramatiq import Dramatiq
    from benchmarks.contestants.taskiq import Taskiq

    visibility = {"visibility_timeout": TIMEOUT_SECONDS}
    restoring = {**visibility, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    claiming = {"idle_timeout": TIMEOUT_SECONDS * 1000, "unacknowledged_lock_timeout": TIMEOUT_SECONDS}
    return {
        "Celeriac": Celeriac,
        "Celery": partial(Celery, transport=visibility),
        "Celery, restoring each second": partial(Celery, transport=restoring),
        "dramatiq": Dramatiq,
        "dramatiq, looking always": partial(Dramatiq, options={"maintenance_chance": 1_000_000}),
        "taskiq": partial(Taskiq, options=claiming),
        "taskiq, reading one by one": partial(Taskiq, options={**claiming, "xread_count": 1}),
    }


def _table(outcomes: Mapping[str, Outcome]) -> str:
    header = ["", "kills", "lost", "stranded", "gone", "twice", "extra runs"]
    header += ["killing took s", "last recovered after s", "waited s"]
    rows = []
    for name, one in outcomes.items():
        counts = [one.kills, one.stranded + one.gone, one.stranded, one.gone, one.twice, one.extra_runs]
        times = [one.killing_seconds, one.recovery_seconds, one.waited_seconds]
        rows.append([name, *(f"{count:,}" for count in counts), *(f"{value:.1f}" for value in times)])
    return table(header, rows)


if __name__ == "__main__":
    main()
