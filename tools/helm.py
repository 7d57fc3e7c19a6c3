"""Finds Helm on this machine, or builds it from its Go module: `python -m tools.helm [3|4]` prints where it is."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: The majors that the chart supports; the last is the one built where none is asked for.
MAJORS = (3, 4)
#: tools/go.mod pins the versions that are built.
MODULE = Path(__file__).parent
BUILT = MODULE.parent / ".tools" / "bin"


class HelmMissing(Exception):
    """There is no Helm here and it cannot be built; the message says what to do."""


def find_helm(major: int | None = None) -> Path | None:
    """Helm from `$HELM`, from PATH, or built before.

    Args:
        major: the version wanted; any when left out.
    """
    for path in _candidates():
        if major is None or major_of(path) == major:
            return path
    return None


def provide_helm(major: int | None = None) -> Path:
    """Helm as `find_helm` finds it, else built, which takes minutes the first time.

    Raises:
        HelmMissing: there is no Go to build it with, or the build failed.
    """
    return find_helm(major) or build_helm(major or MAJORS[-1])


def build_helm(major: int) -> Path:
    """Build Helm into .tools/bin.

    Raises:
        HelmMissing: there is no Go, or the build failed.
    """
    go = shutil.which("go")
    if go is None:
        msg = f"no Helm {major}: install Helm (https://helm.sh), set HELM to its path, or install Go to have it built"
        raise HelmMissing(msg)
    BUILT.mkdir(parents=True, exist_ok=True)
    binary = _binary(major)
    unfinished = binary.with_suffix(".new")
    command = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(unfinished), f"helm.sh/helm/v{major}/cmd/helm"]
    with (BUILT / "helm.lock").open("w") as lock:
        # Tests that run side by side may all want it; the first builds it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current(binary):
            built = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, check=False)  # noqa: S603 - ours
            if built.returncode:
                msg = f"Helm {major} could not be built:\n{built.stderr.strip()}"
                raise HelmMissing(msg)
            unfinished.replace(binary)
    return binary


def major_of(helm: Path) -> int:
    """The major version of a Helm, 0 if it does not say."""
    answer = subprocess.run([helm, "version", "--short"], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    found = re.match(r"v(\d+)", answer.stdout)
    return int(found[1]) if found else 0


def _candidates() -> Iterator[Path]:
    named = os.environ.get("HELM")
    if named:
        path = shutil.which(named)
        if path is None:
            msg = f"HELM={named} is no program; correct or unset it"
            raise HelmMissing(msg)
        yield Path(path)
    if path := shutil.which("helm"):
        yield Path(path)
    yield from filter(_is_current, map(_binary, reversed(MAJORS)))


def _binary(major: int) -> Path:
    return BUILT / f"helm{major}"


def _is_current(binary: Path) -> bool:
    """Whether it has been built, from the versions that are pinned now."""
    return binary.exists() and binary.stat().st_mtime >= (MODULE / "go.mod").stat().st_mtime


def main() -> None:
    """Print the path of Helm, after building it where that is necessary."""
    try:
        sys.stdout.write(f"{provide_helm(int(sys.argv[1]) if len(sys.argv) > 1 else None)}\n")
    except HelmMissing as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
