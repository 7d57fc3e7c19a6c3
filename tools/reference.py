"""Writes the pages under docs/reference/ from the code, so that they cannot drift: `make docs`."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from celeriac import create_app
from celeriac.cli import COMMANDS, command_of
from celeriac.errors import CeleriacError
from celeriac.settings import Settings
from celeriac_api.app import create_api
from celeriac_api.openapi import known_errors, summary

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; change it there. -->\n\n"


def settings_page() -> str:
    """Every setting with its environment variable, its default and what it is for."""
    lines = [
        "# Settings\n",
        "Every process reads its settings from the environment at start and refuses those that cannot work.\n",
        "| variable | default | what |",
        "| --- | --- | --- |",
        *_rows(Settings, "CELERIAC_"),
    ]
    return NOTE + "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its options."""
    text = (
        "# Commands\n\nEvery command ends with 0 when it did what it was told, 1 when it could not and says why on "
        "standard error, and 2 when it did not understand its arguments, unless it says otherwise. `--data-dir` joins "
        "the platform that `celeriac up` runs on that directory.\n"
    )
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        command = command_of(point)
        context = typer.Context(command, info_name=f"celeriac {point.name}")
        text += _command(command, context)
        for name in sorted(getattr(command, "commands", {})):
            child = command.commands[name]
            text += _command(child, typer.Context(child, info_name=f"celeriac {point.name} {name}"))
    return NOTE + text


def http_page() -> str:
    """Every path with its method, its parameters and what it is for."""
    document = _document()
    text = (
        f"# HTTP API\n{document['info']['description']}\nA running API shows the whole contract under `/docs`; "
        "[openapi.json](openapi.json) is the same for programs, and [Errors](errors.md) lists what can go wrong.\n"
    )
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            text += f"\n## `{method.upper()} {path}`\n\n{operation['description']}\n\n{_summary(operation)}\n"
            text += _table("parameter", [_parameter(each) for each in operation.get("parameters", [])])
            text += _table("field", _fields(document, operation.get("requestBody", {})))
    return NOTE + text


def openapi_page() -> str:
    """The OpenAPI document."""
    return json.dumps(_document(), indent=2, ensure_ascii=False) + "\n"


def errors_page() -> str:
    """Every error with what it means and what to do."""
    import_everything()
    known = sorted(known_errors().values(), key=lambda error: (error.status, error.code))
    # Whatever has no status of its own is never answered.
    answered = [error for error in known if error.status != CeleriacError.status or error is CeleriacError]
    others = [error for error in known if error not in answered]
    return NOTE + (
        "# Errors\n\n"
        "Over HTTP every error is `application/problem+json` (RFC 9457): `type`, `title`, `status` and `detail`, which "
        "names the field, its value and the way out. Programs look at `type`, which never changes; `detail` is for "
        "people. [HTTP API](http.md) says which errors an operation answers. The command line prints the detail and "
        "ends with 1.\n\n"
        "| type | status | title | when | what to do |\n| --- | --- | --- | --- | --- |\n"
        + "".join(f"| `{each.type_uri()}` | {each.status} | {_in_words(each)} |\n" for each in answered)
        + "\n## Raised and printed, never answered\n\n"
        "| type | title | when | what to do |\n| --- | --- | --- | --- |\n"
        + "".join(f"| `{each.type_uri()}` | {_in_words(each)} |\n" for each in others)
    )


def import_everything() -> None:
    """Import all modules, so that all errors are known."""
    for package in ("celeriac", "celeriac_api", "celeriac_embedded", "workloads"):
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            # These do something when they are imported.
            if not {"__main__", "alembic", "migrations"} & set(module.name.split(".")):
                importlib.import_module(module.name)


PAGES = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "http.md": http_page,
    "openapi.json": openapi_page,
    "errors.md": errors_page,
}


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        sys.stdout.write(f"docs/reference/{name}\n")


def _document() -> dict[str, Any]:
    app = create_app(Settings(api_token=SecretStr("unused"), file_store="db:"))
    return create_api(app).openapi()


def _summary(operation: dict[str, Any]) -> str:
    scopes = [scope for each in operation.get("security", []) for needed in each.values() for scope in needed]
    needs = f"needs scope `{scopes[0]}`" if scopes else "needs no token"
    return f"`{operation['operationId']}` {needs} and answers {', '.join(operation['responses'])}."


def _in_words(error: type[CeleriacError]) -> str:
    return f"{error.title} | {summary(error)} | {error.way_out}"


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            rows += _rows(type(default), f"{prefix}{name.upper()}__")
        else:
            rows.append(f"| {_variable(prefix, name, field)} | {_default(default)} | {field.description} |")
    return rows


def _variable(prefix: str, name: str, field: FieldInfo) -> str:
    choices = getattr(field.validation_alias, "choices", None)
    return " or ".join(f"`{choice}`" for choice in choices) if choices else f"`{prefix}{name.upper()}`"


def _default(value: Any) -> str:  # noqa: ANN401 - the default of any setting
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == ():
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _command(command: Any, context: Any) -> str:  # noqa: ANN401 - typer's own kinds
    text = f"\n## `{context.info_name}`\n\n{command.help or ''}\n"
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = (
            parameter.opts
            if parameter.param_type_name == "option"
            else [parameter.metavar or str(parameter.name).upper()]
        )
        text_of = getattr(parameter, "help", None) or ""
        rows.append((", ".join(f"`{name}`" for name in names), text_of))
    return text + _table("option", rows)


def _parameter(parameter: dict[str, Any]) -> tuple[str, str]:
    return f"`{parameter['name']}` ({parameter['in']})", parameter.get("description", "")


def _fields(document: dict[str, Any], body: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for content in body.get("content", {}).values():
        name = content["schema"]["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
        for field, described in schema["properties"].items():
            needed = ", required" if field in schema.get("required", []) else ""
            rows.append((f"`{field}`{needed}", described.get("description", "")))
    return rows


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    return f"\n| {head} | what |\n| --- | --- |\n" + "".join(f"| {name} | {text} |\n" for name, text in rows)


if __name__ == "__main__":
    main()
