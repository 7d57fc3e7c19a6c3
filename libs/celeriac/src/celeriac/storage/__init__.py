"""The file store: where uploads and attachments lie, by one URL.

    store = open_store("file:///var/lib/celeriac/files", database)
    store.put("uploads/1", stream)           # streamed, visible only when whole
    with store.open("uploads/1") as file:    # a binary file object, streamed
        ...

| URL | where |
| --- | --- |
| `file:///absolute/folder` | a folder of this machine or a shared volume |
| `s3://bucket/prefix` | S3 or anything that speaks it; endpoint and credentials from the `AWS_*` variables |
| `db:` | chunks in the database: for clusters without shared volumes |
"""

from celeriac.storage.store import FileStore, open_store

__all__ = ["FileStore", "open_store"]
