"""The schema history of the workload: an Alembic branch of its own, `data_sync`."""
