"""What the database store leaves behind, and what it does when the database is away."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from celeriac.database import Database
from celeriac.errors import NotFound, Unavailable
from celeriac.storage import FileStore
from celeriac.storage.database import ABANDONED_AFTER, DatabaseStore, StoredChunk, StoredFile
from tests.servers import free_port
from tests.storage import MIB, Zeros, content_of


def test_a_dead_database_is_unavailable() -> None:
    store = DatabaseStore(Database(f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"))
    with pytest.raises(Unavailable, match="db: is away") as caught:
        store.open("one")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_replaced_deleted_and_failed_objects_leave_no_chunks(store: FileStore, database: Database) -> None:
    store.put("kept", Zeros(20 * MIB))
    store.put("kept", Zeros(3 * MIB))
    store.put("deleted", Zeros(2 * MIB))
    store.delete("deleted")
    with pytest.raises(OSError, match="went away"):
        store.put("failed", Zeros(9 * MIB, fails_at=5 * MIB))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(StoredChunk)) == 3
        assert session.scalars(select(StoredFile.key)).all() == ["kept"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_chunks_of_a_killed_put_are_removed_a_day_later(
    store: FileStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(DatabaseStore, "_remove", lambda *_: None)
        with pytest.raises(OSError, match="went away"):
            store.put("killed", Zeros(40 * MIB, fails_at=30 * MIB))
    store.put("kept", Zeros(2 * MIB))

    def chunks() -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(StoredChunk)) or 0

    assert chunks() == 31
    with database.write() as session:
        age = ABANDONED_AFTER + timedelta(minutes=1)
        session.execute(update(StoredChunk).values(created_at=session.scalar(select(StoredFile.created_at)) - age))
    store.put("next", io.BytesIO(b"content"))
    assert chunks() == 3
    assert content_of(store, "kept") == bytes(2 * MIB)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_object_is_whole_although_the_answer_to_its_last_commit_was_lost(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = DatabaseStore._point

    def point_and_lose_the_answer(*arguments: object) -> None:
        point(*arguments)
        raise Unavailable("connection lost")

    with monkeypatch.context() as broken:
        broken.setattr(DatabaseStore, "_point", point_and_lose_the_answer)
        with pytest.raises(Unavailable, match="connection lost"):
            store.put("one", io.BytesIO(b"content"))
    assert content_of(store, "one") == b"content"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_put_that_takes_half_a_day_gives_up_before_a_sweep_could_meet_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.storage.database.PUT_TIMEOUT", timedelta(0))
    with pytest.raises(Unavailable, match="took longer"):
        store.put("slow", io.BytesIO(b"content"))
    with pytest.raises(NotFound):
        store.open("slow")
