"""`celeriac worker`: a Celery worker of one or more queues."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from typing import Annotated

import typer
from celery import signals
from celery.bin.celery import celery
from celery.utils.nodenames import default_nodename, host_format

from celeriac.app import create_app
from celeriac.broker.eviction import refuse_eviction
from celeriac.commands.options import DataDir
from celeriac.errors import ConfigurationError
from celeriac.process import die_with_parent
from celeriac.settings import load_settings
from celeriac.telemetry import configure_logs

#: Pools that Celery offers; each but prefork and solo needs its package.
POOLS = ("prefork", "threads", "solo", "gevent")


def worker(
    names: Annotated[list[str] | None, typer.Argument(metavar="QUEUE...", help="Queues, as with --queue.")] = None,
    queue: Annotated[list[str] | None, typer.Option("--queue", "-q", help="A queue to consume; repeatable.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Tasks at a time; default: what the queues say.")
    ] = None,
    pool: Annotated[str, typer.Option(help=f"How tasks run: {', '.join(POOLS)}.")] = "prefork",
    hostname: Annotated[str | None, typer.Option(help="The worker's name; default: queues, pid and host.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C, which lets running tasks end."""
    settings = load_settings(data_dir)
    configure_logs(settings.log, "worker")
    wanted = list(dict.fromkeys([*(queue or []), *(names or [])]))
    if not wanted:
        msg = "worker: which queue? name at least one with --queue"
        raise ConfigurationError(msg)
    if pool not in POOLS:
        msg = f"--pool: no pool {pool!r}; use one of {', '.join(POOLS)}"
        raise ConfigurationError(msg)
    app = create_app(settings)
    refuse_eviction(app.redis)
    queues = [app.queue(name) for name in wanted]
    slots = concurrency or max(queue.concurrency for queue in queues)
    name = host_format(default_nodename(hostname or f"{'-'.join(wanted)}-{os.getpid()}@%h"))

    @signals.setup_logging.connect(weak=False)
    def keep_ours(**_: object) -> None:
        """Celery would configure logging itself."""

    @signals.worker_before_create_process.connect(weak=False)
    def share_memory(**_: object) -> None:
        # Objects made so far are left out of garbage collection, which would copy their pages into every child.
        gc.collect()
        gc.freeze()

    @signals.worker_process_init.connect(weak=False)
    def end_with_the_worker(**_: object) -> None:
        # Without it the child of a killed worker goes on with a task that another worker is given again.
        die_with_parent(signal.SIGKILL)

    def work() -> int:
        # Retries and what follows a task wait for Redis, too: about ten minutes of tries.
        app.conf.task_publish_retry_policy = {"max_retries": 310, "interval_step": 0.2, "interval_max": 2}
        # As `app.start` does, which keeps the exit code to itself.
        celery.params[0].default = app
        code = celery.main(
            args=[
                "--quiet",
                "worker",
                f"--queues={','.join(wanted)}",
                f"--concurrency={slots}",
                f"--pool={pool}",
                f"--hostname={name}",
                "--optimization=fair",
                "--without-gossip",
                "--without-mingle",
            ],
            standalone_mode=False,
        )
        return int(code or 0)

    # prometheus-client looks for it when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder = tempfile.mkdtemp(prefix="celeriac-metrics-")
    from celeriac.execution.supervisor import Supervisor  # noqa: PLC0415

    supervisor_pid = os.getpid()
    try:
        code = Supervisor(app, name, wanted, slots, pool).run(work)
    finally:
        if os.getpid() == supervisor_pid:
            shutil.rmtree(metrics_folder, ignore_errors=True)
    raise typer.Exit(code)
