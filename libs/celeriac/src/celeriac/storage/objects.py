"""Files in a folder, or in S3 through `obstore`.

    ObjectStore("file:///var/lib/celeriac/files")
    ObjectStore("s3://bucket/prefix")       # AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ... from the environment

Guaranteed: a put is whole or not at all, and an open file shows one version of the object to its end or raises
`OSError`. Memory: 1 MiB in a folder; in S3 about 30 MiB for a put and 8 MiB for an open file, however large the object.

Not guaranteed: that a put which was killed leaves nothing behind. It leaves no object, but in a folder a file
`#<random>`, and in S3 an unfinished multipart upload; have the bucket's lifecycle rules remove those. In a folder one
key cannot be the folder of another (`a` and `a/b`); in S3 it can.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar, Final, NoReturn
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from celeriac.errors import ConfigurationError, NotFound, Unavailable
from celeriac.storage.chunks import ChunkReader, read_chunks
from celeriac.storage.folder import write_file
from celeriac.storage.keys import check_key
from celeriac.storage.upload import send_parts

#: What is read at once into a file.
BLOCK_SIZE: Final = 1024 * 1024
#: S3's smallest part. Its 10,000 parts make 48 GiB the largest object.
PART_SIZE: Final = 5 * 1024 * 1024
#: Parts on their way to S3 at the same time.
PARTS_AT_ONCE: Final = 2
#: What one request of an open S3 object fetches: large enough that the 20 to 100 ms before its first byte do not count.
RANGE_SIZE: Final = 4 * 1024 * 1024

#: How long an endpoint may take to accept a connection.
CONNECT_TIMEOUT: Final = timedelta(seconds=2)
#: How long an endpoint may be silent. It runs while a part is sent too: two parts at once need a link of 1 MiB/s.
SILENCE_TIMEOUT: Final = timedelta(seconds=10)
#: No attempt begins later than this, so that a dead endpoint is reported within about 10 s.
RETRY_TIMEOUT: Final = timedelta(seconds=6)

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class ObjectStore:
    """A folder or an S3 prefix.

    S3 must not be used before a fork and after it: obstore's threads do not survive one, and the child would wait for
    ever. A child that finds itself in that place raises `ConfigurationError` instead. A folder has no such limit.

    Args:
        url: `file:///absolute/folder` or `s3://bucket/prefix`.

    Raises:
        ConfigurationError: the URL is neither, or lacks the folder or the bucket.
    """

    _s3_used_in: ClassVar[int | None] = None

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = url
        self._bucket = parts.netloc
        self._prefix = unquote(parts.path).strip("/")
        self._folder: Path | None = None
        if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/") and self._prefix:
            self._folder = Path("/", self._prefix)
        elif parts.scheme != "s3" or not self._bucket:
            msg = f"CELERIAC_FILE_STORE: {url!r} is no file store; use file:///absolute/folder or s3://bucket/prefix"
            raise ConfigurationError(msg)

    def put(self, key: str, content: IO[bytes]) -> int:
        """Store an object, whole or not at all; see `FileStore.put`."""
        check_key(key)
        source = _Source(content, PART_SIZE if self._folder is None else BLOCK_SIZE)
        with self._translated(key, source):
            if self._folder is not None:
                write_file(self._folder / key, source)
                return source.size
            # A small object is one request; with an iterator obstore would make three of it.
            first = next(source, b"")
            if len(first) < PART_SIZE:
                obstore.put(self._s3, key, first, use_multipart=False)
            else:
                parts = itertools.chain([first], source)
                send_parts(self._s3, key, parts, part_size=PART_SIZE, at_once=PARTS_AT_ONCE)
        return source.size

    def open(self, key: str) -> IO[bytes]:
        """Open an object for reading; see `FileStore.open`."""
        check_key(key)
        with self._translated(key):
            if self._folder is not None:
                return (self._folder / key).open("rb")
            meta = obstore.head(self._s3, key)

        def fetch(number: int) -> bytes:
            start = number * RANGE_SIZE
            wanted = (start, min(start + RANGE_SIZE, meta["size"]))
            try:
                with self._translated(key):
                    got = obstore.get(self._s3, key, options={"range": wanted, "if_match": meta["e_tag"]})
                    return bytes(got.bytes())
            except (NotFound, PreconditionError) as error:
                msg = "deleted or replaced while it was being read; open it again"
                raise OSError(errno.ESTALE, msg, key) from error

        return io.BufferedReader(ChunkReader(meta["size"], RANGE_SIZE, fetch))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        check_key(key)
        with suppress(NotFound), self._translated(key):
            if self._folder is not None:
                (self._folder / key).unlink()
            else:
                obstore.delete(self._s3, key)

    @property
    def _s3(self) -> S3Store:
        process = os.getpid()
        if ObjectStore._s3_used_in not in {None, process}:
            msg = f"{self._url}: S3 was used before this process was forked; use it only after the fork"
            raise ConfigurationError(msg)
        ObjectStore._s3_used_in = process
        return self._client

    @cached_property
    def _client(self) -> S3Store:
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        return S3Store(
            self._bucket,
            prefix=self._prefix or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": SILENCE_TIMEOUT,
            },
            retry_config={
                "max_retries": 5,
                "retry_timeout": RETRY_TIMEOUT,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )

    @contextmanager
    def _translated(self, key: str, source: _Source | None = None) -> Iterator[None]:
        try:
            yield
        except PreconditionError:
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if source is None and "NoSuchBucket" not in str(error):
                raise NotFound("file", key) from error
            self._refuse(error, source)
        except (BaseError, OSError) as error:
            self._refuse(error, source)

    def _refuse(self, error: Exception, source: _Source | None) -> NoReturn:
        if source is not None and source.failed:
            raise error
        reason = str(error).partition("Debug source")[0].strip()
        msg = f"the file store {self._url} is away: {reason}"
        raise Unavailable(msg) from error


class _Source(Iterator[bytes]):
    """The parts of a put: counts their bytes, and knows whether reading them failed rather than storing them."""

    def __init__(self, content: IO[bytes], part_size: int) -> None:
        self._parts = read_chunks(content, part_size)
        self.size = 0
        self.failed = False

    def __next__(self) -> bytes:
        try:
            part = next(self._parts)
        except StopIteration:
            raise
        except BaseException:
            self.failed = True
            raise
        self.size += len(part)
        return part
