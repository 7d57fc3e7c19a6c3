"""One large object sent to S3 in parts, while the caller's thread reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import Any

import obstore
from obstore.store import S3Store


class _Abandoned(Exception):
    """Makes obstore abort the upload."""


def send_parts(store: S3Store, key: str, parts: Iterable[bytes], *, part_size: int, at_once: int) -> None:
    """Send an object in parts; when reading them raises, the upload is aborted and nothing of it stays.

    obstore runs in a thread of its own, for it panics when it is entered again while it waits for the next part: that
    is what happens when the content itself is read from S3. And signals such as Celery's soft time limit reach only a
    thread that runs Python.
    """
    waiting: Queue[bytes | _Abandoned | None] = Queue(maxsize=1)
    with ThreadPoolExecutor(1, "celeriac-s3-put") as executor:
        sending = executor.submit(
            obstore.put, store, key, _received(waiting), chunk_size=part_size, max_concurrency=at_once
        )
        try:
            for part in parts:
                if not _hand_over(waiting, part, sending):
                    break
        except BaseException:
            _hand_over(waiting, _Abandoned(), sending)
            raise
        _hand_over(waiting, None, sending)
        sending.result()


def _received(waiting: Queue[bytes | _Abandoned | None]) -> Iterator[bytes]:
    while (part := waiting.get()) is not None:
        if isinstance(part, _Abandoned):
            raise part
        yield part


def _hand_over(
    waiting: Queue[bytes | _Abandoned | None], part: bytes | _Abandoned | None, sending: Future[Any]
) -> bool:
    """Wait until there is room for a part; says whether the upload still goes on."""
    while not sending.done():
        try:
            waiting.put(part, timeout=0.1)
        except Full:
            continue
        return True
    return False
