"""The broker's Lua scripts: what has to happen in one step.

Each file says in its header what it is given and what it returns; `clock.lua`, `messages.lua`, `letters.lua`,
`delay.lua`, `event.lua`, `record.lua` and `task_ids.lua` are functions that the others use.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

#: What a script needs before its own text; the order counts.
_NEEDS: dict[str, tuple[str, ...]] = {
    "acknowledge": (),
    "bury": ("clock", "messages", "letters"),
    "claim": ("clock",),
    "dead_letters": ("letters",),
    "event": (),
    "give_back": ("clock", "messages", "task_ids"),
    "pause": (),
    "postpone": ("clock", "messages", "delay", "task_ids"),
    "publish": ("clock", "messages", "delay", "event", "record"),
    "purge": ("clock", "messages", "event", "task_ids"),
    "renew": ("clock",),
    "replay": ("messages", "event", "record", "task_ids"),
    "resume": ("messages",),
    "retry": ("messages", "event", "record"),
    "take_over": ("clock",),
    "tend": ("clock", "messages", "task_ids"),
}


@cache
def source(name: str, clock: str | None = None) -> str:
    """A script's whole text.

    Args:
        name: its file, without `.lua`.
        clock: Lua that defines `now_us()` in place of Redis' own clock, for tests that turn time themselves.
    """
    parts = [clock if part == "clock" and clock is not None else _read(part) for part in (*_NEEDS[name], name)]
    return "\n".join(parts)


def _read(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text()
