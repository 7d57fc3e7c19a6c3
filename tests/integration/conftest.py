"""Platforms for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform import Platform


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An empty SQLite database."""
    return f"sqlite:///{tmp_path / 'celeriac.db'}"


@pytest.fixture
def platform(tmp_path: Path, redis_url: str, sqlite_url: str) -> Iterator[Platform]:
    """A platform on SQLite of which nothing runs yet."""
    with Platform(tmp_path, redis_url, sqlite_url) as platform:
        yield platform
