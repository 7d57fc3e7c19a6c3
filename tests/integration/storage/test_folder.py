"""What a folder leaves behind, and what it does when the disk refuses."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from celeriac.database import Database
from celeriac.errors import ConfigurationError, Unavailable
from celeriac.storage import FileStore, open_store
from tests.storage import MIB, Zeros, content_of


@pytest.mark.parametrize("kind", ["file"])
def test_a_failed_put_leaves_no_draft(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="went away"):
        store.put("a/one", Zeros(9 * MIB, fails_at=5 * MIB))
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["file"])
def test_a_folder_that_cannot_be_made_is_unavailable(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(Unavailable, match=r"file:.* is away"):
        store.put("one", io.BytesIO(b"content"))


def test_a_folder_needs_no_package_for_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(f"sqlite:///{tmp_path}/unused.db")
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "celeriac.storage.s3", raising=False)
    store = open_store(f"file://{tmp_path}/files", database)
    store.put("one", io.BytesIO(b"content"))
    assert content_of(store, "one") == b"content"
    with pytest.raises(ConfigurationError, match=r"install celeriac\[storage\]"):
        open_store("s3://bucket", database)
