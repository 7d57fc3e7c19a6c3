"""Markdown tables, and the page under docs/benchmarks that holds them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table.

    Args:
        header: the heads of its columns; the first is usually empty.
        rows: its cells.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Write a median with the least and the greatest value.

    Args:
        values: what was measured, one value a round.
        form: the format of each number.
    """
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def page(title: str, *parts: str) -> str:
    """Put a page together from its parts."""
    return "\n\n".join([f"# {title}", *(part.strip() for part in parts if part.strip())]) + "\n"


def deliver(name: str, text: str, *, write: bool) -> None:
    """Print a page and, where it was asked for, write it.

    Args:
        name: the file's name under docs/benchmarks.
        text: the page.
        write: whether to write the file.
    """
    print(f"\n{text}")
    if write:
        (FOLDER / name).write_text(text)
        print(f"written to {FOLDER / name}")
