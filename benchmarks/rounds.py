"""Interleaved rounds of several contestants, and the table of what they took."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version


def interleave(contestants: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run all contestants in turn, so that what else the machine does falls on all of them alike.

    Args:
        contestants: what to time, by name.
        rounds: how often each runs.

    Returns:
        The seconds of each run, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            gc.collect()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"  round {number}: {name} {seconds[name][-1]:.2f} s", flush=True)
    return seconds


def table(seconds: Mapping[str, list[float]], units: int, unit: str, reference: str) -> str:
    """Write medians with their spread as a Markdown table.

    Args:
        seconds: the seconds of each run, by contestant.
        units: how much each run does.
        unit: what is counted, such as `rows`.
        reference: the contestant that the others are compared to.
    """
    base = statistics.median(seconds[reference])
    lines = [
        f"| | median s | fastest to slowest s | {unit}/s | speed against {reference} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, runs in seconds.items():
        median = statistics.median(runs)
        spread = f"{min(runs):.2f} to {max(runs):.2f}"
        lines.append(f"| {name} | {median:.2f} | {spread} | {units / median:,.0f} | {base / median:.2f} |")
    return "\n".join(lines)


def conditions(*packages: str) -> str:
    """Describe machine, versions and load, without which no figure means anything."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}, load {load:.1f} at the end"
    )
