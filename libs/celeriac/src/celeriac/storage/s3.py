"""Files in S3, or anything that speaks it, through `obstore`.

    BucketStore("s3://bucket/prefix")       # AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ... from the environment

Guaranteed: a put is whole or not at all, and an open file shows one version of the object to its end or raises
`OSError`. Memory: about 30 MiB for a put and 8 MiB for an open file, however large the object.

Not guaranteed: that a put which was killed leaves nothing behind. It leaves no object, but an unfinished multipart
upload; have the bucket's lifecycle rules remove those.
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
from typing import IO, ClassVar, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from celeriac.errors import ConfigurationError, NotFound, Unavailable
from celeriac.storage.chunks import ChunkReader, CountedChunks
from celeriac.storage.keys import check_key
from celeriac.storage.upload import send_parts

#: S3's smallest part, bytes. Its 10,000 parts make 48 GiB the largest object.
PART_SIZE: Final = 5 * 1024 * 1024
#: Parts on their way to S3 at the same time.
PARTS_AT_ONCE: Final = 2
#: What one request of an open object fetches, bytes: enough that the 20 to 100 ms before its first byte do not count.
RANGE_SIZE: Final = 4 * 1024 * 1024

#: How long an endpoint may take to accept a connection.
CONNECT_TIMEOUT: Final = timedelta(seconds=2)
#: How long an endpoint may be silent. It runs while a part is sent too: two parts at once need a link of 1 MiB/s.
SILENCE_TIMEOUT: Final = timedelta(seconds=10)
#: No attempt begins later than this, so that a dead endpoint is reported within about 10 s.
RETRY_TIMEOUT: Final = timedelta(seconds=6)

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class BucketStore:
    """The objects of a bucket whose keys begin with a prefix.

    It must not be used before a fork and after it: obstore's threads do not survive one, and the child would wait for
    ever. A child that finds itself in that place raises `ConfigurationError` instead.

    Args:
        url: `s3://bucket/prefix`; the prefix may be left out.

    Raises:
        ConfigurationError: the URL is another one, or names no bucket.
    """

    _used_in: ClassVar[int | None] = None

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            msg = f"CELERIAC_FILE_STORE: {url!r} names no bucket; use s3://bucket/prefix"
            raise ConfigurationError(msg)
        self._url = url
        self._bucket = parts.netloc
        self._prefix = unquote(parts.path).strip("/")

    def put(self, key: str, content: IO[bytes]) -> int:
        """Store an object, whole or not at all; see `FileStore.put`."""
        check_key(key)
        parts = CountedChunks(content, PART_SIZE)
        try:
            # A small object is one request; with an iterator obstore would make three of it.
            first = next(parts, b"")
            if len(first) < PART_SIZE:
                obstore.put(self._s3, key, first, use_multipart=False)
            else:
                all_parts = itertools.chain([first], parts)
                send_parts(self._s3, key, all_parts, part_size=PART_SIZE, at_once=PARTS_AT_ONCE)
        except (BaseError, OSError) as error:
            if parts.failed:
                raise
            raise self._away(error) from error
        return parts.size

    def open(self, key: str) -> IO[bytes]:
        """Open an object for reading; see `FileStore.open`."""
        check_key(key)
        with self._translated(key):
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
            obstore.delete(self._s3, key)

    @property
    def _s3(self) -> S3Store:
        process = os.getpid()
        if BucketStore._used_in not in {None, process}:
            msg = f"{self._url}: S3 was used before this process was forked; use it only after the fork"
            raise ConfigurationError(msg)
        BucketStore._used_in = process
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
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except PreconditionError:
            raise
        except FileNotFoundError as error:
            # The bucket's absence is no absence of the object: it would hide a wrong configuration.
            if "NoSuchBucket" in str(error):
                raise self._away(error) from error
            raise NotFound("file", key) from error
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> Unavailable:
        # What follows is the debug form of the same words, over many lines.
        reason = str(error).partition("Debug source")[0].strip()
        return Unavailable(f"the file store {self._url} is away: {reason}")
