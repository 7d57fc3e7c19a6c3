"""Replay and drop dead letters, together with the records of their tasks."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog

from celeriac.broker.dead_letters import DeadLetter, Selection
from celeriac.broker.publication import Companion
from celeriac.publishing.headers import SUBMITTED_HEADER

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

# Quotes within JSON strings are escaped, so that this is found only where it is a header.
_SUBMITTED = re.compile(rb'("%s": ?)\d+' % SUBMITTED_HEADER.encode())


def replay(app: CeleriacApp, letter: DeadLetter) -> bool:
    """Put a dead letter's message back into its queue: its task may run again, and has all its deliveries before it.

    What was told of its failure stays told: a chord that has failed by it does not go on.

    Returns:
        False where the letter is gone, for somebody else has replayed or dropped it.

    Raises:
        RedisError: Redis is away; if the letter is still there, nothing has changed.
    """
    message = _SUBMITTED.sub(rb"\g<1>%d" % (time.time() * 1000), letter.message, count=1)
    replayed = app.dead_letters.replay(letter, message, _new_record(app, letter))
    if replayed:
        log.info("dead_letter_replayed", queue=letter.queue, task=letter.task, task_id=letter.task_id, tag=letter.tag)
    return replayed


def drop(app: CeleriacApp, letter: DeadLetter) -> bool:
    """Forget a dead letter; its task stays failed.

    Returns:
        False where the letter is gone already.
    """
    dropped = app.dead_letters.drop(letter)
    if dropped:
        log.info("dead_letter_dropped", queue=letter.queue, task=letter.task, task_id=letter.task_id, tag=letter.tag)
    return dropped


def replay_all(app: CeleriacApp, selection: Selection) -> int:
    """Replay all dead letters of a selection that there are now, those that died first at first; gives their number."""
    return sum(replay(app, letter) for letter in app.dead_letters.select(selection))


def drop_all(app: CeleriacApp, selection: Selection) -> int:
    """Drop all dead letters of a selection that there are now; gives their number."""
    return sum(drop(app, letter) for letter in app.dead_letters.select(selection))


def _new_record(app: CeleriacApp, letter: DeadLetter) -> Companion | None:
    # No worker starts a task that has failed.
    if letter.task_id is None:
        return None
    return app.records.new(letter.task_id, name=letter.task or "", queue=letter.queue, priority=letter.priority)
