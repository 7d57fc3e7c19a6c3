"""Server-Sent Events as the HTML standard defines them, from the bytes of a response.

Not by the lines of an HTTP client: some end a line also at characters that JSON may contain.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: A CR that comes last may be one half of a CR LF.
_LINE_END = re.compile(r"\r\n|\n|\r(?=.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Message:
    """What stands between two empty lines."""

    #: `message` where it says nothing else.
    event: str
    #: None where it has none, as when it only moves on the id.
    data: str | None
    #: The last id so far; what a client sends as `Last-Event-ID` when it comes again.
    last_id: str


def read(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Read messages; one that is cut off in the middle is left out.

    Args:
        chunks: the body, in any pieces.
    """
    last_id = event = ""
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            yield Message(event or "message", "\n".join(data) if data else None, last_id)
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    for chunk in chunks:
        *whole, rest = _LINE_END.split(rest + decoder.decode(chunk))
        yield from whole
