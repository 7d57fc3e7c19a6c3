"""`celeriac metrics`: what the API measures."""

from __future__ import annotations

import typer
from prometheus_client.parser import text_string_to_metric_families

from celeriac.commands.api import client_of
from celeriac.commands.options import DataDir, Json, print_json


def metrics(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print the metrics of the API, of queues and of workers, as Prometheus text; with --json a list of samples."""
    with client_of(data_dir) as client:
        text = client.metrics()
    if not as_json:
        typer.echo(text, nl=False)
        return
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    # JSON has no infinity, as the last bucket of a histogram has; that one is a label.
    print_json([{"name": each.name, "labels": each.labels, "value": each.value} for each in samples])
