"""Writes the table of values into charts/celeriac/README.md from the `# --` comments of values.yaml."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "charts" / "celeriac"
BEGIN = "<!-- Written by `python -m tools.chart_readme` from values.yaml; change it there. -->"
END = "<!-- End of what is written from values.yaml. -->"

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?: |$)")
_COMMENT = re.compile(r" *# ?(?P<text>.*)")


def documented_values(text: str) -> Iterator[tuple[str, str]]:
    """The dotted path and the comment of each value that has one, in the order of the file.

    Args:
        text: a values.yaml in which a comment that begins with `# --` documents the key after it.
    """
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if key := _KEY.match(line):
            depth = len(key["indent"]) // 2
            path = [*path[:depth], key["key"]]
            if comment:
                yield ".".join(path), " ".join(comment)
            comment = []
        elif (note := _COMMENT.match(line)) and (comment or note["text"].startswith("-- ")):
            comment.append(note["text"].removeprefix("-- ").strip())
        else:
            comment = []


def values_table(text: str) -> str:
    """The documented values as Markdown, a table for each first part of a path."""
    values = yaml.safe_load(text)
    rows: dict[str, list[str]] = {}
    for path, comment in documented_values(text):
        section = path.partition(".")[0]
        if not isinstance(values[section], Mapping) or not values[section] or path == section:
            section = ""
        rows.setdefault(section, []).append(f"| `{path}` | `{_default(values, path)}` | {_cell(comment)} |")
    tables = []
    for section, lines in rows.items():
        title = f"### `{section}`\n\n" if section else ""
        tables.append(f"{title}| value | default | what |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n")
    return "\n".join(tables)


def readme(current: str, values: str) -> str:
    """The README with its table brought up to date.

    Raises:
        ValueError: the README has lost the marks around the table.
    """
    before, begin, rest = current.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        msg = f"the marks {BEGIN!r} and {END!r} are missing; put them where the table belongs"
        raise ValueError(msg)
    return f"{before}{BEGIN}\n\n{values_table(values)}\n{END}{after}"


def main() -> None:
    """Write the README of the chart."""
    page = CHART / "README.md"
    page.write_text(readme(page.read_text(), (CHART / "values.yaml").read_text()))
    sys.stdout.write(f"{page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page}\n")


def _default(values: Mapping[str, Any], path: str) -> str:
    value: Any = values
    for part in path.split("."):
        value = value[part]
    return _cell(json.dumps(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
