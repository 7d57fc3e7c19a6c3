"""What S3 alone can do wrong."""

from __future__ import annotations

import io
import os
import socket
import time
from contextlib import closing

import boto3
import pytest

from celeriac.errors import ConfigurationError, Unavailable
from celeriac.storage import FileStore
from celeriac.storage.s3 import BucketStore
from tests.servers import S3Server, free_port
from tests.storage import MIB, Zeros, use_s3


@pytest.mark.parametrize("death", ["refuses", "drops", "hangs"])
def test_a_dead_s3_endpoint_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch, death: str) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = free_port() if death == "refuses" else listener.getsockname()[1]
        listener.listen(0 if death == "drops" else 5)
        # The queue of connections is full after these; the kernel drops what comes next.
        waiting = [socket.socket() for _ in range(3 if death == "drops" else 0)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        use_s3(monkeypatch, f"http://127.0.0.1:{port}")
        store = BucketStore("s3://bucket")
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"s3://bucket is away"):
            store.put("one", io.BytesIO(b"content"))
        assert time.monotonic() - start < 12
        for client in waiting:
            client.close()


def test_a_missing_bucket_is_not_taken_for_a_missing_file(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, s3_server.url)
    store = BucketStore("s3://no-such-bucket")
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.put("one", io.BytesIO(b"content"))


def test_s3_refuses_to_hang_in_a_child_of_a_process_that_used_it(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(monkeypatch, s3_server.url)
    monkeypatch.setattr(BucketStore, "_used_in", os.getpid() + 1)
    with pytest.raises(ConfigurationError, match="before this process was forked"):
        BucketStore("s3://bucket").open("one")


@pytest.mark.parametrize("kind", ["s3"])
def test_a_failed_put_leaves_no_unfinished_upload(store: FileStore) -> None:
    with pytest.raises(OSError, match="went away"):
        store.put("one", Zeros(20 * MIB, fails_at=12 * MIB))
    s3 = boto3.client("s3")
    uploads = [s3.list_multipart_uploads(Bucket=bucket["Name"]) for bucket in s3.list_buckets()["Buckets"]]
    assert not any("Uploads" in answer for answer in uploads)


@pytest.mark.parametrize("kind", ["s3"])
def test_an_endpoint_that_dies_during_a_put_is_unavailable(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as server:
        use_s3(monkeypatch, server.url)
        boto3.client("s3").create_bucket(Bucket="bucket")
        reads: list[int] = []

        def die_after_12_mib() -> None:
            reads.append(1)
            if len(reads) == 12 * MIB // 700_001:
                server.kill()

        with pytest.raises(Unavailable, match="s3://bucket is away"):
            BucketStore("s3://bucket").put("one", Zeros(60 * MIB, on_read=die_after_12_mib))
