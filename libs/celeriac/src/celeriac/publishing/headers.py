"""Headers that Celeriac adds to Celery's messages."""

#: The time of the submit, milliseconds since 1970: what waiting times are measured from.
SUBMITTED_HEADER = "celeriac_submitted_ms"

#: Header: the slot of the schedule that a task belongs to, `<entry>@<due time>`.
SLOT_HEADER = "celeriac_slot"
