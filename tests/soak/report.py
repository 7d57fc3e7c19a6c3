"""What a trial reports: its figures as a Markdown table, what was violated, and under which conditions."""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rounds import conditions

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "benchmarks"

#: More violations than this of one trial say nothing new.
SHOWN_VIOLATIONS = 30


@dataclass
class Report:
    """The outcome of one trial."""

    name: str
    #: What the trial shows, a sentence or two for people.
    promise: str
    seed: int
    figures: list[tuple[str, str]] = field(default_factory=list)
    #: Further Markdown below the figures.
    details: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def figure(self, what: str, value: object) -> None:
        """Add a row to the table."""
        self.figures.append((what, f"{value:,}" if isinstance(value, int) else str(value)))

    def markdown(self, command: str, redis_version: str) -> str:
        """The whole page."""
        where = conditions("celery", "kombu", "redis")
        shown = [f"- {each}" for each in self.violations[:SHOWN_VIOLATIONS]]
        if len(self.violations) > SHOWN_VIOLATIONS:
            shown.append(f"- and {len(self.violations) - SHOWN_VIOLATIONS} more")
        verdict = "**No violation.**" if not shown else f"**{len(self.violations)} violations:**"
        parts = [
            f"# Soak: {self.name}",
            self.promise,
            f"`{command}`, seed {self.seed}",
            f"{where}, Redis server {redis_version}",
            table(("figure", "value"), self.figures),
            *self.details,
            verdict,
            *(["\n".join(shown)] if shown else []),
        ]
        return "\n\n".join(parts) + "\n"

    def write(self, page: str) -> Path:
        """Write the page where the documentation has it."""
        path = PAGES / f"soak-{self.name}.md"
        path.write_text(page)
        return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(seconds: Sequence[float]) -> str:
    """Median and worst of some times, for people."""
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} s median, {max(seconds):.2f} s worst of {len(seconds):,}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def load() -> str:
    """The load of the machine over the last minute, beside its cores."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def say(message: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()
