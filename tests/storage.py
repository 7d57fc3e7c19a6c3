"""What tests of file stores share: streams of any size, and the way to a test's S3 endpoint."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from celeriac.storage import FileStore

MIB = 1024 * 1024

#: Opens the same store once more, as another process would.
Connect = Callable[[], FileStore]


class Zeros(io.RawIOBase):
    """A stream of that many zeros, read in uneven pieces as from a socket; it may break, and calls back."""

    def __init__(self, size: int, fails_at: int | None = None, on_read: Callable[[], None] = lambda: None) -> None:
        self.left = size
        self.until_failure = size + 1 if fails_at is None else fails_at
        self.on_read = on_read

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.on_read()
        count = min(self.left, 700_001 if size < 0 else min(size, 700_001))
        self.left -= count
        self.until_failure -= count
        if self.until_failure <= 0:
            raise OSError("the sender went away")
        return bytes(count)


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def content_of(store: FileStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()
