"""The tasks of Celery and Celeriac."""

from __future__ import annotations

from celery import shared_task

from benchmarks import ledger


@shared_task(name="bench.noop", ignore_result=True)
def noop(index: int) -> None:
    """Do nothing but note that it ran."""
    ledger.append(index)


@shared_task(name="bench.stored")
def stored(index: int) -> int:
    """The same, with a result that is kept."""
    ledger.append(index)
    return index


@shared_task(name="bench.gate", ignore_result=True)
def gate(_index: int) -> None:
    """Hold a slot until the benchmark begins."""
    ledger.pass_gate()
