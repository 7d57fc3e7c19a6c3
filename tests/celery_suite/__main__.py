"""Runs the columns, writes the page and says by its exit status whether ours fails where stock passes."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.celery_suite import report
from tests.celery_suite.column import Transport, run_column
from tests.celery_suite.selection import check_files
from tests.celery_suite.source import ROOT, unpack_suite

PAGE = ROOT / "docs/benchmarks/celery-suite.md"


def main() -> int:
    """Run what the command line asks for.

    Returns:
        1 where ours does not pass a test that stock passes, where a column was cut off, or, of one column, where a test
        fails.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("--transport", choices=[*Transport, "both"], default="both")
    parser.add_argument("-k", dest="selected", help="run only the tests that pytest's -k selects; writes no page")
    parser.add_argument("--logs", type=Path, help="where the output of pytest and workers goes, and stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception: processes are ended
    transports = list(Transport) if options.transport == "both" else [Transport(options.transport)]
    logs = (options.logs or Path(tempfile.mkdtemp(prefix="celery-suite-logs-"))).absolute()
    with tempfile.TemporaryDirectory(prefix="celery-suite-") as folder:
        suite = unpack_suite(Path(folder))
        check_files(path.name for path in (suite / "t/integration").glob("test_*.py"))
        columns = [run_column(transport, suite, logs, options.selected) for transport in transports]
    _say(f"{report.results(columns)}\n\n{report.failures(columns)}\n")
    if len(columns) == len(Transport):
        bad = report.regressions(*columns)
        if not options.selected:
            PAGE.write_text(report.page(columns))
            _say(f"wrote {PAGE.relative_to(ROOT)}")
        _say(f"passed by stock and not by ours: {', '.join(bad) or 'none'}")
    else:
        bad = columns[0].failed
    if bad or not all(column.complete for column in columns):
        _say(f"logs: {logs}")
        return 1
    if options.logs is None:
        shutil.rmtree(logs)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
