"""Live changes of task records, for the coroutines of a process that follow tasks.

Whatever changes a record also adds to one stream in Redis, in the same step. While somebody listens, one connection
reads that stream and tells each listener of what concerns it, so that a thousand listeners cost Redis no more than one.

- A `Watch` follows one task: it gives the task's record anew whenever that has changed, the latest once where it has
  changed several times meanwhile. It misses no end, whatever becomes of Redis in between.
- A `Feed` follows all tasks, or those of a `TaskFilter`: each change in its order, and where some were lost, a gap.

Both take bounded memory, however slowly they are read. The stream keeps about the latest 10,000 changes.
"""

from celeriac.events.event import TaskEvent, check_id
from celeriac.events.feed import GAP, Feed
from celeriac.events.hub import Closed, Events
from celeriac.events.watch import Watch

__all__ = ["GAP", "Closed", "Events", "Feed", "TaskEvent", "Watch", "check_id"]
