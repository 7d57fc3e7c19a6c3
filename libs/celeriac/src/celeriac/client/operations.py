"""The operations of the API, each a method; adding one is a line here and a function in `celeriac.client.calls`."""

from __future__ import annotations

from celeriac.client import calls, following
from celeriac.client.method import Method, Stream


class Operations:
    """What clients of both kinds have in common."""

    submit_task = Method(calls.submit_task)
    submit_tasks = Method(calls.submit_tasks)
    list_tasks = Method(calls.list_tasks)
    show_task = Method(calls.show_task)
    show_result = Method(calls.show_result)
    cancel_task = Method(calls.cancel_task)
    cancel_tasks = Method(calls.cancel_tasks)
    retry_task = Method(calls.retry_task)
    follow_task = Stream(following.task)
    follow_tasks = Stream(following.tasks)
    list_queues = Method(calls.list_queues)
    show_queue = Method(calls.show_queue)
    pause_queue = Method(calls.pause_queue)
    resume_queue = Method(calls.resume_queue)
    purge_queue = Method(calls.purge_queue)
    scale_queue = Method(calls.scale_queue)
    list_workers = Method(calls.list_workers)
    list_measured_tasks = Method(calls.list_measured_tasks)
    sync_tasks = Method(calls.sync_tasks)
    retry_task_as_administrator = Method(calls.retry_task_as_administrator)
    list_dead_letters = Method(calls.list_dead_letters)
    show_dead_letter = Method(calls.show_dead_letter)
    replay_dead_letter = Method(calls.replay_dead_letter)
    drop_dead_letter = Method(calls.drop_dead_letter)
    replay_dead_letters = Method(calls.replay_dead_letters)
    drop_dead_letters = Method(calls.drop_dead_letters)
    show_redis = Method(calls.show_redis)
    list_acts = Method(calls.list_acts)
    health = Method(calls.health)
    live = Method(calls.live)
    ready = Method(calls.ready)
    metrics = Method(calls.metrics)
