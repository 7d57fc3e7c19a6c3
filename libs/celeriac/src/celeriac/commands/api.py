"""What commands share that ask the API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from celeriac.client import Client
from celeriac.commands.options import print_json, print_table
from celeriac.settings import load_settings

T = TypeVar("T")

#: How long a command tries, seconds: whoever runs it sees that nothing happens.
PATIENCE_SECONDS = 3

#: Entries of a page, as many as the API gives.
PAGE = 1000


def client_of(data_dir: Path | None) -> Client:
    """Make the client that the settings describe."""
    return Client.from_settings(load_settings(data_dir), patience_seconds=PATIENCE_SECONDS)


def plain(answer: BaseModel) -> dict[str, Any]:
    """An answer as the API has sent it."""
    return answer.model_dump(mode="json", exclude_unset=True)


def show(answer: BaseModel, *, as_json: bool) -> None:
    """Print an answer: as JSON, or a line for each field."""
    fields = plain(answer)
    if as_json:
        print_json(fields)
    else:
        print_table(["field", "value"], [(name, json.dumps(value)) for name, value in fields.items()])


def show_list(columns: Iterable[str], answers: Iterable[BaseModel], *, as_json: bool) -> None:
    """Print answers: as JSON, or a line for each."""
    rows = [plain(answer) for answer in answers]
    if as_json:
        print_json(rows)
    else:
        names = list(columns)
        print_table(names, [[_cell(row.get(name)) for name in names] for row in rows])


def first(entries: Iterable[T], limit: int | None) -> list[T]:
    """The first of some entries; None for all."""
    return list(islice(entries, limit))


def _cell(value: Any) -> str | None:  # noqa: ANN401 - any JSON
    if value is None or isinstance(value, str):
        return value
    return (
        " ".join(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value)
        else json.dumps(value)
    )
