"""Runs a trial by its name: `python -m tests.soak chaos --seed 7`."""

from __future__ import annotations

import argparse
import inspect
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, get_type_hints

from tests.binaries import find_redis
from tests.soak import chaos, contract, liveness, long, pause, recovery
from tests.soak.options import Options
from tests.soak.report import Report, say


@dataclass(frozen=True)
class Trial:
    """One trial and the options that it takes."""

    run: Callable[[int, Any, Path], Report]
    options: type[Options]


TRIALS = {
    "chaos": Trial(chaos.run, chaos.ChaosOptions),
    "recovery": Trial(recovery.run, recovery.RecoveryOptions),
    "long": Trial(long.run, long.LongOptions),
    "liveness": Trial(liveness.run, liveness.LivenessOptions),
    "pause": Trial(pause.run, pause.PauseOptions),
    "contract": Trial(contract.run, contract.ContractOptions),
}


def main() -> int:
    """Run a trial; 0 when no promise was broken."""
    arguments = _parser().parse_args()
    trial = TRIALS[arguments.trial]
    given = {each.name: getattr(arguments, each.name) for each in fields(trial.options)}
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix=f"celeriac-soak-{arguments.trial}-"))
    say(f"seed {seed}; ledger and logs in {folder}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        report = trial.run(seed, trial.options(**given), folder)
    except KeyboardInterrupt:
        say(f"interrupted; kept {folder}")
        return 130
    page = report.markdown(f"python -m tests.soak {' '.join(sys.argv[1:])}", _redis_version())
    say(f"\n{page}")
    if arguments.write:
        say(f"written to {report.write(page)}")
    if report.violations or arguments.keep:
        say(f"kept {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if report.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Break a platform and count its tasks.")
    trials = parser.add_subparsers(dest="trial", required=True)
    for name, trial in TRIALS.items():
        module = inspect.getmodule(trial.run)
        one = trials.add_parser(name, help=(inspect.getdoc(module) or "").splitlines()[0])
        one.add_argument("--seed", type=int, help="repeats a run's choices, though not its timing; default: a new one")
        one.add_argument("--write", action="store_true", help=f"also write docs/benchmarks/soak-{name}.md")
        one.add_argument("--keep", action="store_true", help="keep ledger and logs also where nothing was violated")
        kinds, comments = get_type_hints(trial.options), _comments(trial.options)
        for each in fields(trial.options):
            option, default = f"--{each.name.replace('_', '-')}", each.default
            words = f"{comments[each.name]} (default: {default})" if default != "" else comments[each.name]
            one.add_argument(option, type=kinds[each.name], default=default, help=words.replace("%", "%%"))
    return parser


def _comments(options: type[Options]) -> dict[str, str]:
    """What the options' `#:` comments say, by name."""
    source = inspect.getsource(Options) + inspect.getsource(options)
    return {name: words for words, name in re.findall(r"#: (.*)\n\s+(\w+):", source)}


def _redis_version() -> str:
    said = subprocess.run([find_redis(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", said)
    return found[1] if found else "unknown"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End in order, so that all processes are ended; once more would leave some behind, and does nothing."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
