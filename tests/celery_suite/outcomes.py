"""What became of each test: written line by line while pytest runs, so that what was cut off leaves its part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """How a test ended; of its phases and subtests the one that comes first here counts."""

    ERROR = "error"
    FAILED = "failed"
    #: It failed as Celery says that it does.
    XFAILED = "expected failure"
    SKIPPED = "skipped"
    PASSED = "passed"
    #: It had no end: the column was cut off.
    NOT_RUN = "not run"


#: What somebody has to look at.
FAILURES = frozenset({Outcome.ERROR, Outcome.FAILED, Outcome.NOT_RUN})


@dataclass(frozen=True)
class Ended:
    """A test and its outcome."""

    #: Such as `test_canvas.py::test_chord::test_priority`.
    name: str
    outcome: Outcome
    #: One line; why, where it did not pass.
    message: str = ""
    seconds: float = 0.0

    @property
    def file(self) -> str:
        """The file of the test."""
        return self.name.partition("::")[0]


class Journal:
    """A file of outcomes.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, ended: Ended) -> None:
        """Write one at its end; what is written last of a test counts."""
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(ended)) + "\n")

    def read(self) -> dict[str, Ended]:
        """The outcome of each test by its name; nothing where pytest did not get so far."""
        if not self._path.exists():
            return {}
        lines = map(json.loads, self._path.read_text().splitlines())
        return {line["name"]: Ended(**line | {"outcome": Outcome(line["outcome"])}) for line in lines}
