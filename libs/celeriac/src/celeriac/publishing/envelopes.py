"""Messages of tasks as the installed Celery writes them, made without Celery's detours."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import celery
from celery import signals
from celery.utils.nodenames import anon_nodename
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError
from kombu.utils.json import JSONEncoder

from celeriac.broker.publication import Publication
from celeriac.publishing.headers import SUBMITTED_HEADER
from celeriac.publishing.outbox import Outbox

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

#: Who listens to these may change or count a message; then Celery has to write each one.
_SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

#: Celery shows which of the two it was given.
Args = list[Any] | tuple[Any, ...]

_FLAT = frozenset({int, float, bool, str, type(None)})
#: Characters; nothing within so many is shortened.
_SHORT = 100

_NO_LINKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

#: What `kombu.utils.json.dumps` makes anew for each text.
_encode = JSONEncoder().encode


class _Template:
    """A message as JSON, with gaps for what differs from one to the next.

    Args:
        message: one that Celery has written, whose queue and priority stay unless others are given.
    """

    def __init__(self, message: dict[str, Any]) -> None:
        properties = message["properties"]
        self.queue: str = properties["delivery_info"]["routing_key"]
        self.priority: int = properties["priority"]
        mark = uuid4().hex

        def gaps(*names: str) -> dict[str, str]:
            return {name: f"{mark}{name}" for name in names}

        headers = message["headers"] | gaps("id", "argsrepr", "kwargsrepr", "origin", SUBMITTED_HEADER)
        headers["root_id"] = headers["id"]
        properties = properties | gaps("reply_to", "delivery_tag", "priority") | {"correlation_id": headers["id"]}
        whole = message | gaps("body") | {"headers": headers, "properties": properties}
        # Constant text and names of gaps in turns.
        self._parts = re.split(f'"{mark}(.*?)"', _encode(whole))

    def fill(self, values: Mapping[str, str | int]) -> str:
        """Write a message whose gaps have these values."""
        parts = self._parts.copy()
        parts[1::2] = [_encode(values[name]) for name in parts[1::2]]
        return "".join(parts)


class Envelopes:
    """Writes the messages of an app's tasks.

    Celery writes the first message of each task and queue. In those that follow, what differs is filled in, which takes
    a fifth of the time.

    Args:
        app: whose tasks they are.
    """

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app
        self._outbox = Outbox()
        self._outbox_lock = threading.Lock()
        self._repr_levels = app.conf.task_repr_maxlevels
        #: By task and queue; None where Celery writes each message.
        self._templates: dict[tuple[str, str | None], _Template | None] = {}

    def write(
        self,
        name: str,
        args: Args = (),
        kwargs: dict[str, Any] | None = None,
        *,
        task_id: str,
        queue: str | None = None,
        priority: int | None = None,
        eta: datetime | None = None,
        expires: datetime | None = None,
    ) -> Publication:
        """Write a message of a task, and the record that belongs to it.

        Args:
            name: a task of the app.
            args: its positional arguments, JSON.
            kwargs: its named arguments, JSON.
            task_id: its id.
            queue: a queue of the app; None for the task's own.
            priority: 0 to 9, 9 first; None for the task's own.
            eta: the moment before which it may not run, aware.
            expires: the moment after which it is not run any more, aware.
        """
        kwargs = kwargs or {}
        if eta is None and expires is None:
            filled = self.fill(name, args, kwargs, task_id=task_id, queue=queue, priority=priority)
            if filled is not None:
                return filled
        options = {"queue": queue, "priority": priority, "eta": eta, "expires": expires}
        given = {option: value for option, value in options.items() if value is not None}
        return self._by_celery(name, args, kwargs, task_id=task_id, **given)

    def fill(
        self,
        name: str,
        args: Args,
        kwargs: dict[str, Any],
        *,
        task_id: str,
        queue: str | None = None,
        priority: int | None = None,
    ) -> Publication | None:
        """Write a message as `write` does, or nothing where only Celery can: then it returns None.

        Raises:
            EncodeError: an argument is no JSON.
        """
        template = None if self._concerns_others() else self._template(name, queue)
        if template is None:
            return None
        return self._filled(template, name, args, kwargs, task_id, priority)

    def _concerns_others(self) -> bool:
        """Whether a task submits here, which Celery makes the parent, or somebody listens to signals."""
        return self._app.current_worker_task is not None or any(signal.receivers for signal in _SIGNALS)

    def _by_celery(self, name: str, args: Args, kwargs: dict[str, Any], **options: Any) -> Publication:  # noqa: ANN401
        task: Any = self._app.tasks[name]
        shadow = task.shadow_name(args, kwargs, options)
        # What `apply_async` gives, but for its look at the arguments.
        given = {**task._get_exec_options(), "ignore_result": task.ignore_result, **options}  # noqa: SLF001
        with self._outbox_lock:
            self._app.send_task(
                name,
                args,
                kwargs,
                task_type=task,
                shadow=shadow,
                producer=self._outbox.producer,
                add_to_parent=False,
                **given,
            )
            (publication,) = self._outbox.take()
        return publication

    def _template(self, name: str, queue: str | None) -> _Template | None:
        key = name, queue
        if key not in self._templates:
            message = json.loads(self._by_celery(name, (), {}, task_id="", **({"queue": queue} if queue else {})).raw)
            self._templates[key] = _Template(message) if self._is_plain(name, message) else None
        return self._templates[key]

    def _is_plain(self, name: str, message: Mapping[str, Any]) -> bool:
        """Whether nothing in a message but what `fill` knows depends on the moment or on the arguments."""
        names_itself = type(self._app.tasks[name]).shadow_name is not celery.Task.shadow_name
        headers, properties = message["headers"], message["properties"]
        return (
            message["content-type"] == "application/json"
            and properties["body_encoding"] == "base64"
            and not headers.get("compression")
            and headers["expires"] is None
            and not names_itself
        )

    def _filled(
        self,
        template: _Template,
        name: str,
        args: Args,
        kwargs: dict[str, Any],
        task_id: str,
        priority: int | None,
    ) -> Publication:
        amqp, levels = self._app.amqp, self._repr_levels
        if priority is None:
            priority = template.priority
        message = template.fill(
            {
                "body": _body(args, kwargs),
                "id": task_id,
                "argsrepr": _shown(args, args, amqp.argsrepr_maxsize, levels),
                "kwargsrepr": _shown(kwargs, kwargs.values(), amqp.kwargsrepr_maxsize, levels),
                "origin": anon_nodename(),
                SUBMITTED_HEADER: int(time.time() * 1000),
                "reply_to": self._app.thread_oid,
                "delivery_tag": str(uuid4()),
                "priority": priority,
            }
        )
        record = self._app.records.new(task_id, name=name, queue=template.queue, priority=priority)
        return Publication(template.queue, message, priority=priority, waiting_id=task_id, companion=record)


def _body(args: Args, kwargs: dict[str, Any]) -> str:
    try:
        text = _encode((args, kwargs, _NO_LINKS))
    except Exception as error:
        raise EncodeError(error) from error  # as kombu does
    return base64.b64encode(text.encode()).decode()


def _shown(value: Any, parts: Iterable[Any], length: int, levels: int) -> str:  # noqa: ANN401
    """What Celery shows of arguments; of few, short and flat ones that is their `repr`, at a tenth of the time."""
    if all(type(part) in _FLAT for part in parts) and len(text := repr(value)) < min(length, _SHORT):
        return text
    return str(saferepr(value, length, maxlevels=levels))
