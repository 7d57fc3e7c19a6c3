"""Files in a folder of this machine or on a shared volume.

    FolderStore("file:///var/lib/celeriac/files")

Guaranteed: a put is whole or not at all, and an open file shows one version of the object to its end, also when that
is replaced or deleted meanwhile. Memory: 1 MiB, however large the object.

Not guaranteed: that a put which was killed leaves nothing behind. It leaves no object, but a file `#<random>`. One key
cannot be the folder of another (`a` and `a/b`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from celeriac.errors import ConfigurationError, NotFound, Unavailable
from celeriac.storage.chunks import CountedChunks
from celeriac.storage.keys import check_key

#: What is read at once into a file, bytes.
BLOCK_SIZE: Final = 1024 * 1024


class FolderStore:
    """The files below a folder, which the first put makes.

    Args:
        url: `file:///absolute/folder`.

    Raises:
        ConfigurationError: the URL is another one, or names no folder below the root.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        below_root = unquote(parts.path).strip("/")
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or parts.path[:1] != "/" or not below_root:
            msg = f"CELERIAC_FILE_STORE: {url!r} names no folder; use file:///absolute/folder"
            raise ConfigurationError(msg)
        self._url = url
        self._folder = Path("/", below_root)

    def put(self, key: str, content: IO[bytes]) -> int:
        """Store an object, whole or not at all; see `FileStore.put`."""
        check_key(key)
        blocks = CountedChunks(content, BLOCK_SIZE)
        try:
            _write(self._folder / key, blocks)
        except OSError as error:
            if blocks.failed:
                raise
            raise self._away(error) from error
        return blocks.size

    def open(self, key: str) -> IO[bytes]:
        """Open an object for reading; see `FileStore.open`."""
        check_key(key)
        with self._translated(key):
            return (self._folder / key).open("rb")

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        check_key(key)
        with suppress(NotFound), self._translated(key):
            (self._folder / key).unlink()

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound("file", key) from error
        except OSError as error:
            raise self._away(error) from error

    def _away(self, error: OSError) -> Unavailable:
        return Unavailable(f"the file store {self._url} is away: {error}")


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file that appears under its name when it is whole and on the disk.

    Until then it lies beside that name as `#<random>`, which is no key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"#{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            for block in blocks:
                file.write(block)
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
