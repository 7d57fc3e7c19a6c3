"""Celery's source distribution: fetched by pip, checked against `uv.lock`, and the tests of it unpacked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What the suite needs besides the installed Celery: its tests, and pytest's configuration with its markers.
PARTS = ("t/", "pyproject.toml")


def unpack_suite(folder: Path) -> Path:
    """Fetch the source distribution of the installed Celery and unpack its tests.

    Args:
        folder: where to; the package `celery` is left out of it, so that the installed one is tested.

    Returns:
        The folder to run pytest in.

    Raises:
        RuntimeError: it cannot be fetched, or is not the file that `uv.lock` names.
    """
    archive = _fetch(folder)
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        wanted = tuple(f"{top}/{part}" for part in PARTS)
        tar.extractall(folder, [member for member in tar if member.name.startswith(wanted)], filter="data")
    return folder / top


def _fetch(folder: Path) -> Path:
    release = version("celery")
    options = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "celery"]
    command = [*_pip(), *options, "--dest", str(folder), f"celery=={release}"]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        msg = f"{' '.join(command)}:\n{fetched.stderr}"
        raise RuntimeError(msg)
    archive = folder / f"celery-{release}.tar.gz"
    expected, actual = _locked_hash(release), f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    if actual != expected:
        msg = f"{archive.name} is {actual}, but uv.lock names {expected}"
        raise RuntimeError(msg)
    return archive


def _pip() -> list[str]:
    # The workspace's environment is made by uv, and has no pip.
    uv = shutil.which("uv") or ROOT / ".tools/bin/uv"
    return [str(uv), "tool", "run", "pip"] if Path(uv).exists() else [sys.executable, "-m", "pip"]


def _locked_hash(release: str) -> str:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    for package in lock["package"]:
        if package["name"] == "celery" and package["version"] == release:
            return str(package["sdist"]["hash"])
    msg = f"uv.lock has no celery {release}: run `uv sync --frozen`"
    raise RuntimeError(msg)
