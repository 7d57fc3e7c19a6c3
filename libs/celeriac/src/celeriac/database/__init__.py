"""The database: one engine per process, short transactions, migrations by workload.

    with database.write() as session:
        session.add(row)                # committed when the block ends, rolled back when it raises

SQLite (embedded) and PostgreSQL behave alike: writers queue up and none sees half of another's work. On SQLite every
writing transaction begins with `BEGIN IMMEDIATE`, so that it waits for the lock at its start and never fails in the
middle; keep it under 100 ms, for others wait meanwhile.
"""

from celeriac.database.base import Base, Json, UtcDateTime
from celeriac.database.engine import Database

__all__ = ["Base", "Database", "Json", "UtcDateTime"]
