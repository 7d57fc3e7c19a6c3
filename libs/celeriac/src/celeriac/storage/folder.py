"""Files written whole or not at all, into a folder of this machine or a shared volume."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that appears under its name when it is whole and on the disk; makes the folders that it needs.

    Until then it lies beside that name as `#<random>`, which is no key; a killed writer leaves it there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"#{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    # The name itself must outlive a loss of power too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
