"""Its one task."""

from celery import shared_task


@shared_task
def shout(text: str) -> str:
    """Write a text in capitals."""
    return text.upper()
