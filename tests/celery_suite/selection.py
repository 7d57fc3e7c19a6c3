"""What runs, and what does not and why; the same for both columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

#: The files that run, in this order.
FILES = (
    "test_redis_backend.py",  # first: it counts the channels that anybody has subscribed to
    "test_connection_recovery.py",
    "test_tasks.py",
    "test_canvas.py",
    "test_group_chains.py",
    "test_inspect.py",
    "test_worker.py",
    "test_beat.py",
    "test_loader.py",
)

#: The files that do not, and why.
FILES_LEFT_OUT = {
    "test_backend.py": "needs Azure Blob Storage",
    "test_backend_leak_in_fixture_teardown.py": "starts 20 workers of its own in the test process, on the broker memory://",
    "test_cache_backend.py": "needs memcached",
    "test_database_backend.py": "needs neither broker nor Redis",
    "test_events_state_memory_leak.py": "uses the broker memory://",
    "test_logfile_format.py": "needs neither broker nor worker",
    "test_mem_leak_in_exception_handling.py": "runs eagerly on the broker memory://",
    "test_request_backend_down.py": "needs neither broker nor worker",
    "test_security.py": "uses the serializer `auth`, and Celery expects it to fail; the platform is JSON only",
    "test_serialization.py": "starts workers that accept pickle; the platform is JSON only",
    "test_upgrade.py": "needs neither broker nor worker",
}


class Reason(StrEnum):
    """Why a test is deselected."""

    WORKER_MEMORY = "looks into the memory of a worker that shares the test's process: its signals, state or log"
    NOT_THE_BROKER = "concerns Django's fixup or a broker that cannot be reached, not the broker under test"
    RABBITMQ = "concerns messages that RabbitMQ delivers twice; expects to fail itself where the URL is `redis://`"
    NO_APP = "starts `celery -b URL worker` without an app, which knows no transports but kombu's own"
    DEFAULTS = (
        "expects Celery's defaults where the platform has others: early acknowledgement, priority 0, no time limit; or "
        "settings that only the suite's own worker makes"
    )
    STARTS = "expects a task to go from PENDING to RETRY while it is watched; the platform tells when it has STARTED"
    SUBSCRIPTION = "expects a client to subscribe to a result when it submits; the platform's does when it waits"
    BACKEND_URL = "configures the result backend by its URL; the platform's connects as `REDIS_URL` says"


#: Deselected tests, by file and name without parameters; a class stands for all its tests.
DESELECTED: Mapping[str, Reason] = {
    "test_redis_backend.py::test_decode_responses_disables_compression": Reason.BACKEND_URL,
    "test_tasks.py::test_tasks::test_send_task_without_ignore_result_uses_task_ignore_result": Reason.WORKER_MEMORY,
    "test_tasks.py::test_tasks::test_send_task_without_ignore_result_stores_result": Reason.WORKER_MEMORY,
    "test_tasks.py::test_tasks::test_revoked_by_headers_simple_canvas": Reason.WORKER_MEMORY,
    "test_tasks.py::test_tasks::test_retry": Reason.STARTS,
    "test_tasks.py::test_tasks::test_retry_with_unpickleable_exception": Reason.STARTS,
    "test_tasks.py::test_tasks::test_request_time_limits_none_when_not_configured": Reason.DEFAULTS,
    "test_tasks.py::test_trace_log_arguments": Reason.WORKER_MEMORY,
    "test_tasks.py::test_task_redis_result_backend::test_retry_preserves_ignore_result_false": Reason.WORKER_MEMORY,
    "test_tasks.py::test_task_redis_result_backend::test_retry_preserves_ignore_result_true": Reason.WORKER_MEMORY,
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_forget_cancels_subscription": Reason.SUBSCRIPTION,
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_get_cancels_subscription": Reason.SUBSCRIPTION,
    "test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0": Reason.WORKER_MEMORY,
    "test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_1": Reason.WORKER_MEMORY,
    "test_tasks.py::test_task_replacement::test_replaced_task_nesting_chain": Reason.WORKER_MEMORY,
    "test_tasks.py::test_signal_bound_method_receivers": Reason.WORKER_MEMORY,
    "test_canvas.py::test_chain::test_chord_header_id_duplicated_on_rabbitmq_msg_duplication": Reason.RABBITMQ,
    "test_canvas.py::test_stamping_mechanism::test_task_received_has_access_to_stamps": Reason.WORKER_MEMORY,
    "test_canvas.py::test_stamping_mechanism::test_linking_stamped_sig": Reason.WORKER_MEMORY,
    "test_canvas.py::test_stamping_mechanism::test_err_linking_stamped_sig": Reason.WORKER_MEMORY,
    "test_inspect.py::test_Inspect::test_active": Reason.DEFAULTS,
    "test_inspect.py::test_Inspect::test_scheduled": Reason.DEFAULTS,
    "test_inspect.py::test_Inspect::test_query_task": Reason.DEFAULTS,
    "test_inspect.py::test_Inspect::test_conf": Reason.DEFAULTS,
    "test_inspect.py::test_Inspect::test_stats": Reason.WORKER_MEMORY,
    "test_inspect.py::test_Inspect::test_hello_stamps_received_revoked_ids_locally": Reason.WORKER_MEMORY,
    "test_worker.py::test_run_worker": Reason.NOT_THE_BROKER,
    "test_worker.py::test_django_fixup_direct_worker": Reason.NOT_THE_BROKER,
    "test_worker.py::test_django_fixup_installs_django_task_for_celery_subclass": Reason.NOT_THE_BROKER,
    "test_worker.py::test_django_fixup_signals_only_handled_by_own_app": Reason.NOT_THE_BROKER,
    "test_worker.py::test_concurrency_auto_sizes_prefork_pool": Reason.NO_APP,
}


def reason_for(name: str) -> Reason | None:
    """Why a test is deselected; None where it runs.

    Args:
        name: its file, class and function, such as `test_canvas.py::test_chord::test_priority[x]`.
    """
    plain = name.partition("[")[0]
    while plain:
        if reason := DESELECTED.get(plain):
            return reason
        plain = plain.rpartition("::")[0]
    return None


def check_names(collected: Iterable[str]) -> None:
    """Refuse to deselect what does not exist.

    Raises:
        RuntimeError: an entry of `DESELECTED` fits no test.
    """
    plain = {name.partition("[")[0] for name in collected}
    plain |= {name.rpartition("::")[0] for name in plain}
    if unknown := DESELECTED.keys() - plain:
        msg = f"tests.celery_suite.selection deselects what does not exist: {', '.join(sorted(unknown))}"
        raise RuntimeError(msg)


def check_files(found: Iterable[str]) -> None:
    """Refuse a suite that has files, or lacks some, of which this module says nothing.

    Raises:
        RuntimeError: it is another suite than the one that this selection was made for.
    """
    known, found = {*FILES, *FILES_LEFT_OUT}, set(found)
    if known != found:
        msg = f"tests.celery_suite.selection must say what becomes of: {', '.join(sorted(known ^ found))}"
        raise RuntimeError(msg)
