"""What checks found, for people, for scripts and for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

#: Exit codes of a command whose report has such a row; the worst wins.
EXIT_FAILED, EXIT_NOT_RUN = 1, 3


class Outcome(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    #: It could not be measured.
    NOT_RUN = "not run"
    #: It was left out on purpose.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Row:
    """One check of a report."""

    #: As `--skip` takes it.
    name: str
    title: str
    outcome: Outcome
    #: What was measured, in words; the reason where nothing was.
    figure: str
    #: What it must be.
    limit: str
    note: str = ""
    #: The same as the figure, for scripts; names end in their unit.
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A report."""

    #: ISO 8601, with its zone.
    date: str
    tester: str
    #: How workers and Redis were stopped and started.
    target: str
    #: Versions of the workers; several during an upgrade.
    workers: tuple[str, ...]
    #: Server and version.
    redis: str
    #: Tasks that the workers of the measured queue run at a time.
    concurrency: int
    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> int:
        """0, or why not: `EXIT_FAILED`, `EXIT_NOT_RUN`."""
        outcomes = {row.outcome for row in self.rows}
        if Outcome.FAIL in outcomes:
            return EXIT_FAILED
        return EXIT_NOT_RUN if Outcome.NOT_RUN in outcomes else 0

    @property
    def heading(self) -> list[tuple[str, str]]:
        """What stands above the rows: name and value."""
        return [
            ("date", self.date),
            ("tester", self.tester),
            ("target", self.target),
            ("workers", f"Celeriac {', '.join(self.workers)}"),
            ("Redis", self.redis),
            ("concurrency", str(self.concurrency)),
        ]

    @property
    def table(self) -> list[tuple[str, str, str, str]]:
        """The rows: title, outcome, figure with note, limit."""
        return [
            (row.title, row.outcome, f"{row.figure}; {row.note}" if row.note else row.figure, row.limit)
            for row in self.rows
        ]

    def as_json(self) -> dict[str, Any]:
        """The report for scripts."""
        return {"passed": self.exit_code == 0, **asdict(self)}

    def as_markdown(self) -> str:
        """The report as a page."""
        lines = [*_table(("report", ""), self.heading), "", *_table(COLUMNS, self.table)]
        return "\n".join(["# Report of a deployment", "", *lines, ""])


COLUMNS = ("check", "result", "figure", "limit")


def _table(columns: tuple[str, ...], rows: list[Any]) -> list[str]:
    cells = [columns, ("---",) * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in cells]
