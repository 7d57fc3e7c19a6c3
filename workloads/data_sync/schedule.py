"""Periodic syncs."""

from celery.schedules import crontab

entries = {
    # Files that were uploaded and that nobody has synced since.
    "data-sync-left-behind": {
        "task": "data_sync.sync_left_behind",
        "schedule": crontab(minute="*/30"),
        "options": {"expires": 1800},
    },
}
