"""Runs checks one after the other and fills in the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from celeriac.checks.deployment import Deployment
from celeriac.checks.report import Outcome, Report, Row
from celeriac.checks.target import NotPossible, Target
from celeriac.errors import CeleriacError


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    #: Submits for each number of concurrent clients.
    requests: int
    #: Tasks whose memory is measured.
    tasks: int
    #: How long a task runs that is interrupted, seconds.
    task_seconds: float
    #: How long to wait for results to expire, seconds; 0 to see only that they will.
    expiry_seconds: float


@dataclass(frozen=True)
class Run:
    """What a check works with."""

    deployment: Deployment
    target: Target
    url: str
    token: str
    sizes: Sizes


@dataclass(frozen=True)
class Measured:
    """What a check found."""

    passed: bool
    #: In words; `values` has the same for scripts, with names that end in their unit.
    figure: str
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One row of the report."""

    #: As `--skip` takes it.
    name: str
    title: str
    #: What the figure must be.
    limit: str
    #: Measures it; raises `NotPossible` where that cannot be done, any other `CeleriacError` where it failed.
    measure: Callable[[Run], Measured]


def run_checks(
    run: Run, checks: Sequence[Check], *, skipped: Collection[str], tester: str, tell: Callable[[str], None]
) -> Report:
    """Run checks.

    Args:
        run: what they work with.
        checks: in this order.
        skipped: the names of those to leave out.
        tester: who runs them.
        tell: is told what is measured now.
    """
    date = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    rows = []
    for check in checks:
        if check.name in skipped:
            rows.append(_row(check, Outcome.SKIPPED, Measured(passed=False, figure="left out by --skip")))
            continue
        tell(f"{check.title} ...")
        try:
            measured = check.measure(run)
            outcome = Outcome.PASS if measured.passed else Outcome.FAIL
        except NotPossible as error:
            outcome, measured = Outcome.NOT_RUN, Measured(passed=False, figure=str(error))
        except CeleriacError as error:
            outcome, measured = Outcome.FAIL, Measured(passed=False, figure=str(error))
        rows.append(_row(check, outcome, measured))
        tell(f"{check.title}: {outcome}, {measured.figure}")
    known = run.deployment
    return Report(date, tester, run.target.name, known.workers, known.redis, known.slots, tuple(rows))


def _row(check: Check, outcome: Outcome, measured: Measured) -> Row:
    return Row(check.name, check.title, outcome, measured.figure, check.limit, measured.note, dict(measured.values))
