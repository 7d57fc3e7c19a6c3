"""Celery's own integration suite, run with stock Redis and with ours.

    python -m tests.celery_suite [--transport stock|celeriac|both]

The suite is `t/integration` of the source distribution of the Celery that is installed, fetched at run time. Both
columns run the same selection against a Redis server of their own, with the session worker replaced by a worker in a
process of its own: `celery worker` with what the suite configures, and `celeriac worker` with what the platform does.
No test is run twice: what fails, failed.
"""
