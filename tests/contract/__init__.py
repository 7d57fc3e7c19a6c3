"""Holds the API to its OpenAPI document: `document` each answer of any test, `fuzzing` whatever Schemathesis thinks of.

A workload for that is here, too: `CELERIAC_WORKLOADS=tests.contract`, with the checkout on `PYTHONPATH`.
"""

from __future__ import annotations

from celeriac import Queue, Workload

workload = Workload(name="contract", queues=[Queue("contract")], tasks=["tests.contract.tasks"])
