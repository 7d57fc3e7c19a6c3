"""What the HTTP API takes and answers: one model for each body, which the API and its client share.

Nothing here knows Celery, Redis or FastAPI, so that a client is quick to import.
"""
