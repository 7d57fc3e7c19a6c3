"""A power cut for a server that runs here: what the disk would hold if the machine had lost its power.

    cut = PowerCut(build_recorder(folder), folder)
    process = Popen([...], cwd=data, env=os.environ | cut.environment())
    process.kill()
    cut.restore(after)          # start the server on this copy

SIGKILL alone shows nothing, for the kernel keeps what the server has written. A library of ours, loaded into the
server, therefore notes each sync, and how long the file was when it began; `restore` copies files to that length.

It takes the worst that a disk may do: nothing that was not synced is there, though the kernel may have written some of
it. It takes filesystem and disk to be honest otherwise, as ext4 and XFS are: a sync brings all earlier names of files
with it (renamed, made, removed), not only those of its own file; and files only grow, as append-only files do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class NoRecorder(Exception):
    """Power cuts cannot be played on this machine; the message says why."""


@dataclass(frozen=True)
class Kept:
    """What the disk holds of a file."""

    inode: str
    #: Its length when its last successful sync began, bytes.
    size: int


def build_recorder(folder: Path) -> Path:
    """Compile the library that a server is started with.

    Args:
        folder: where it is put.

    Raises:
        NoRecorder: this is no Linux, or there is no C compiler.
    """
    if sys.platform != "linux":
        msg = f"power cuts are played with LD_PRELOAD, on Linux only; this is {sys.platform}"
        raise NoRecorder(msg)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        msg = "power cuts need a C compiler: install gcc"
        raise NoRecorder(msg)
    library = folder / "power_cut.so"
    subprocess.run([compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class PowerCut:
    """The journal of one run of one server, and the disk after it.

    Args:
        recorder: what `build_recorder` gave.
        folder: an existing folder on the filesystem of the server's data, outside of it.
        sync_seconds: what each sync takes longer than the disk needs, as on slower disks.
    """

    def __init__(self, recorder: Path, folder: Path, *, sync_seconds: float = 0.0) -> None:
        self._recorder = recorder
        self._journal = folder / "journal"
        self._files = folder / "files"
        self._files.mkdir()
        self._sync_seconds = sync_seconds

    def environment(self) -> Mapping[str, str]:
        """What the server's environment must have."""
        return {
            "LD_PRELOAD": str(self._recorder),
            "POWER_CUT_JOURNAL": str(self._journal),
            "POWER_CUT_FILES": str(self._files),
            "POWER_CUT_SYNC_US": str(round(self._sync_seconds * 1_000_000)),
        }

    def restore(self, target: Path) -> None:
        """Make a folder with what the disk would hold, once the server is dead.

        Raises:
            NoRecorder: the server did not load the library.
        """
        if not self._journal.exists():
            msg = "the server did not load the library: it is linked statically, or may not be preloaded"
            raise NoRecorder(msg)
        target.mkdir()
        with self._journal.open() as journal:
            kept = replay(journal)
        for name, file in kept.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with (self._files / file.inode).open("rb") as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
                copy.truncate(file.size)


def replay(journal: Iterable[str]) -> dict[str, Kept]:
    """Read from the journal's lines what the disk holds at their end, by the names of the files."""
    live: dict[str, str] = {}
    sizes: dict[str, int] = {}
    begun: dict[str, tuple[int, dict[str, str], str, int]] = {}
    kept: tuple[int, dict[str, str]] = (-1, {})
    for number, line in enumerate(journal):
        match line.split():
            case ["C", inode, name]:
                live[name] = inode
            case ["R", old, new] if old in live:
                live[new] = live.pop(old)
            case ["U", name]:
                live.pop(name, None)
            case ["B", thread, inode, length]:
                begun[thread] = (number, dict(live), inode, int(length))
            case ["E", thread]:
                at, names, inode, size = begun.pop(thread)
                sizes[inode] = max(size, sizes.get(inode, 0))
                # Of two syncs at once, the one that began earlier may end later; what the other kept stays.
                kept = max(kept, (at, names), key=lambda candidate: candidate[0])
    return {name: Kept(inode, sizes.get(inode, 0)) for name, inode in kept[1].items()}
