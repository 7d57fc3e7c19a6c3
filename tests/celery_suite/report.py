"""Both columns side by side, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from benchmarks.rounds import conditions
from tests.celery_suite.column import TEST_SECONDS, Column
from tests.celery_suite.outcomes import FAILURES, Ended, Outcome
from tests.celery_suite.selection import DESELECTED, FILES, FILES_LEFT_OUT, Reason

#: What a cell of the table counts, in the order of its columns.
COUNTED: Sequence[tuple[str, frozenset[Outcome]]] = (
    ("passed", frozenset({Outcome.PASSED})),
    ("failed", frozenset({Outcome.FAILED})),
    ("errors", frozenset({Outcome.ERROR, Outcome.NOT_RUN})),
    ("skipped", frozenset({Outcome.SKIPPED, Outcome.XFAILED})),
)

PAGE = """\
# Celery's own integration suite

`make celery-suite` runs `t/integration` of Celery {celery}'s source distribution, fetched by pip and checked against
`uv.lock`, once with stock Redis and once with ours: the same selection, a Redis server for each, the session worker
replaced by a process of its own with one slot. No test is run twice: what fails, failed. A test has {seconds} s.

- **stock** is `celery worker` with prefork and `redis://`, the suite's configuration and Celery's defaults.
- **celeriac** is `celeriac worker` with prefork and what the platform configures, and clients made by `create_app()`:
  JSON only, late acknowledgement, priority 5, time limits, task records. What the suite or a test's marker sets in a
  client comes on top. The result backend is the platform's, under the URL `redis://`, since most tests skip themselves
  at any other; and the tests of half-open connections, which skip themselves for the same reason, are made to run.

Skipped are the tests that skip themselves, and those that Celery expects to fail and that do. The worker is another
process, so where a test asserts that nothing wrong was logged or signalled by it, that holds emptily in both columns.

{conditions}

{results}

## Tests that fail

{failures}

## Tests that skip themselves or are expected to fail

{skipped}

## Deselected, in both columns

{deselected}

## Files that are left out

{files}
"""


def page(columns: Sequence[Column]) -> str:
    """The page of the documentation."""
    durations = ", ".join(f"{column.transport} {column.seconds / 60:.0f} min" for column in columns)
    return PAGE.format(
        celery=version("celery"),
        seconds=TEST_SECONDS,
        conditions=f"{conditions('celery', 'kombu', 'redis')};\n{durations}",
        results=results(columns),
        failures=failures(columns),
        skipped=_skipped(columns),
        deselected="\n\n".join(_deselected(reason) for reason in Reason),
        files=_table(["file", "why"], ([f"`{name}`", why] for name, why in FILES_LEFT_OUT.items())),
    )


def results(columns: Sequence[Column]) -> str:
    """How many tests of each file came to what, in each column."""
    names = [f"{column.transport}: {label}" for column in columns for label, _ in COUNTED]
    rows = [[f"`{file}`", *_counts(columns, file)] for file in FILES]
    rows.append(["**all**", *_counts(columns)])
    cut = [f"\n\nThe column {column.transport} was cut off." for column in columns if not column.complete]
    return _table(["file", *names], rows) + "".join(cut)


def failures(columns: Sequence[Column]) -> str:
    """Every test that failed in a column, with what it came to in each."""
    rows = []
    for name in _names(columns):
        ends = [column.tests.get(name, Ended(name, Outcome.NOT_RUN)) for column in columns]
        bad = [end for end in ends if end.outcome in FAILURES]
        if bad:
            rows.append([f"`{name}`", *(end.outcome for end in ends), _code(bad[-1].message)])
    return _table(["test", *(column.transport for column in columns), "message"], rows) if rows else "None."


def regressions(stock: Column, ours: Column) -> list[str]:
    """The tests that pass with stock and do not with ours, whatever else they came to."""
    passed = [name for name, end in stock.tests.items() if end.outcome is Outcome.PASSED]
    return [name for name in passed if name not in ours.tests or ours.tests[name].outcome is not Outcome.PASSED]


def _counts(columns: Sequence[Column], file: str | None = None) -> list[str]:
    cells = []
    for column in columns:
        counted = Counter(end.outcome for end in column.tests.values() if file in {None, end.file})
        cells += [str(sum(counted[outcome] for outcome in outcomes)) for _, outcomes in COUNTED]
    return cells


def _skipped(columns: Sequence[Column]) -> str:
    rows = []
    for name in _names(columns):
        ends = [column.tests.get(name, Ended(name, Outcome.NOT_RUN)) for column in columns]
        why = [end.message for end in ends if end.outcome in {Outcome.SKIPPED, Outcome.XFAILED}]
        if why:
            rows.append([f"`{name}`", *(end.outcome for end in ends), _code(why[-1])])
    return _table(["test", *(column.transport for column in columns), "reason"], rows) if rows else "None."


def _deselected(reason: Reason) -> str:
    names = [f"- `{name}`" for name, why in DESELECTED.items() if why is reason]
    return "\n".join([f"{reason[0].upper()}{reason[1:]}:", "", *names])


def _names(columns: Sequence[Column]) -> list[str]:
    return list(dict.fromkeys(name for column in columns for name in column.tests))


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("`", "'")[:160] + "`" if text else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
