"""The names of the broker's keys in Redis."""

#: Priority of a message that names none.
DEFAULT_PRIORITY = 5

#: The most urgent priority; the least urgent is 0.
MAX_PRIORITY = 9


def ready_key(queue: str, priority: int) -> str:
    """The list that holds the ready messages of one priority."""
    return queue if priority == DEFAULT_PRIORITY else f"{queue}:{priority}"


def ready_keys(queue: str) -> list[str]:
    """The lists that hold a queue's ready messages, most urgent first."""
    return [ready_key(queue, priority) for priority in range(MAX_PRIORITY, -1, -1)]
