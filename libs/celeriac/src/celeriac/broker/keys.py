"""The names of the broker's keys in Redis, all of them behind one optional prefix."""

from __future__ import annotations

from dataclasses import dataclass

#: Priority of a message that names none.
DEFAULT_PRIORITY = 5

#: The most urgent priority; the least urgent is 0.
MAX_PRIORITY = 9


@dataclass(frozen=True)
class Keys:
    """Names keys; scripts that work on many queues are given the prefix and name theirs in the same way."""

    #: Stands before every key, for several platforms in one database.
    prefix: str = ""

    def ready(self, queue: str, priority: int = DEFAULT_PRIORITY) -> str:
        """List of the ready messages of one priority: LPUSH in, RPOP out."""
        name = self.prefix + queue
        return name if priority == DEFAULT_PRIORITY else f"{name}:{priority}"

    def ready_lists(self, queue: str) -> list[str]:
        """The lists of a queue's ready messages, most urgent first."""
        return [self.ready(queue, priority) for priority in range(MAX_PRIORITY, -1, -1)]

    def leases(self, queue: str) -> str:
        """Sorted set, delivery tag -> end of its lease, ms of Redis' TIME; its size is what is in flight."""
        return f"{self.prefix}celeriac:leases:{queue}"

    @property
    def inflight(self) -> str:
        """Hash, delivery tag -> owner, list and raw message, a newline between them."""
        return f"{self.prefix}celeriac:inflight"

    @property
    def started(self) -> str:
        """Set of delivery tags whose task has been started: only those count as deliveries when they come back."""
        return f"{self.prefix}celeriac:started"

    def delayed(self, queue: str) -> str:
        """Sorted set, task id -> when it is due, ms since 1970."""
        return f"{self.prefix}celeriac:delayed:{queue}"

    def delayed_messages(self, queue: str) -> str:
        """Hash, task id -> list and raw message of what waits until it is due."""
        return f"{self.prefix}celeriac:delayed-messages:{queue}"

    def wake(self, queue: str) -> str:
        """List of wake-up tokens: losable, nothing that matters is popped by blocking on it."""
        return f"{self.prefix}celeriac:wake:{queue}"

    @property
    def wake_mover(self) -> str:
        """List of tokens for whoever moves due messages: something is due earlier than all before."""
        return f"{self.prefix}celeriac:wake-mover"

    @property
    def awaited(self) -> str:
        """String, when the next message is due, ms since 1970, and the keepers that come for it."""
        return f"{self.prefix}celeriac:awaited"

    def dead(self, queue: str) -> str:
        """List of dead letters, newest first."""
        return f"{self.prefix}celeriac:dead:{queue}"

    @property
    def revoked(self) -> str:
        """Sorted set of revoked task ids by expiry, seconds since 1970."""
        return f"{self.prefix}celeriac:revoked"

    @property
    def queues(self) -> str:
        """Set of every queue that has been published to or consumed."""
        return f"{self.prefix}celeriac:queues"

    @property
    def paused(self) -> str:
        """Set of the queues that nothing is claimed from for the time being."""
        return f"{self.prefix}celeriac:paused"

    @property
    def workers(self) -> str:
        """Set of the names of workers."""
        return f"{self.prefix}celeriac:workers"

    def worker(self, name: str) -> str:
        """Hash, what a worker says of itself; it expires."""
        return f"{self.prefix}celeriac:worker:{name}"

    def idempotency(self, key: str) -> str:
        """String, the task of the submit with an idempotency key; it expires."""
        return f"{self.prefix}celeriac:idem:{key}"

    def rate(self, kind: str, name: str) -> str:
        """String, when all of a rate limit is there again, µs since 1970, of a `task` or a `token`; it expires."""
        return f"{self.prefix}celeriac:rate:{kind}:{name}"

    def task(self, task_id: str) -> str:
        """Hash, the record of a task; it expires."""
        return f"{self.prefix}celeriac:task:{task_id}"

    @property
    def indexes(self) -> str:
        """What the names of all indexes of records begin with."""
        return f"{self.prefix}celeriac:tasks:"

    def index(self, state: str, queue: str) -> str:
        """Sorted set, task id -> time of its submit, ms since 1970, of the records of a queue in one state."""
        return f"{self.indexes}{state}:{queue}"

    @property
    def moved(self) -> str:
        """Set, task ids of messages that are moved while somebody looks for lost ones, and who looks; it expires."""
        return f"{self.prefix}celeriac:moved"

    @property
    def events(self) -> str:
        """Stream of the latest changes of records."""
        return f"{self.prefix}celeriac:events"

    @property
    def sweeper(self) -> str:
        """String, who takes entries of expired records out of the indexes at present; it expires."""
        return f"{self.prefix}celeriac:sweeper"

    @property
    def result_files(self) -> str:
        """Sorted set, name of the file of a result -> when it may be removed, seconds since 1970."""
        return f"{self.prefix}celeriac:result-files"

    @property
    def files_sweeper(self) -> str:
        """String, that somebody removes such files at present; it expires."""
        return f"{self.prefix}celeriac:files-sweeper"

    def message(self, task_id: str) -> str:
        """String, list and raw message of a task that has failed, to be tried again; it expires with the record."""
        return f"{self.prefix}celeriac:message:{task_id}"

    def result(self, task_id: str) -> str:
        """String, the result where Celery's `AsyncResult` looks for it."""
        return f"{self.prefix}celery-task-meta-{task_id}"
