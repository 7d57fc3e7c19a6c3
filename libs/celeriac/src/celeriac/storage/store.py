"""What every file store does, and how a URL names one."""

from __future__ import annotations

from typing import IO, Protocol

from celeriac.database import Database
from celeriac.errors import ConfigurationError
from celeriac.storage.folder import FolderStore


class FileStore(Protocol):
    """Named binary objects, streamed in and out in bounded memory."""

    def put(self, key: str, content: IO[bytes]) -> int:
        """Store an object, whole or not at all.

        Args:
            key: a path of letters, digits, `-`, `_`, `.` and `/`.
            content: read to its end in chunks.

        Returns:
            The number of bytes stored.

        Raises:
            Unavailable: the store is away.
        """
        ...

    def open(self, key: str) -> IO[bytes]:
        """Open an object for reading; the caller closes it.

        Raises:
            NotFound: there is no such object.
            Unavailable: the store is away.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...


def open_store(url: str, database: Database) -> FileStore:
    """Open the store that a `CELERIAC_FILE_STORE` URL names.

    Raises:
        ConfigurationError: the URL names no kind of store that there is, or the package for it is not installed.
    """
    scheme = url.partition(":")[0]
    if scheme == "db":
        from celeriac.storage.database import DatabaseStore  # noqa: PLC0415 - its table only where it is used

        return DatabaseStore(database)
    if scheme == "file":
        return FolderStore(url)
    if scheme == "s3":
        try:
            from celeriac.storage.s3 import BucketStore  # noqa: PLC0415 - obstore is an extra
        except ImportError as error:
            msg = f"CELERIAC_FILE_STORE: {url!r} needs the package obstore; install celeriac[storage]"
            raise ConfigurationError(msg) from error
        return BucketStore(url)
    msg = f"CELERIAC_FILE_STORE: {url!r} is no file store; use file:///folder, s3://bucket/prefix or db:"
    raise ConfigurationError(msg)
