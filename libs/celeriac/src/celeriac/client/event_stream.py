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


class Reader:
    """Reads messages from a stream, piece by piece; one that is cut off in the middle is left out.

    Args:
        last_id: the id of the last message before.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that end in a piece of the stream."""
        *lines, self._rest = _LINE_END.split(self._rest + self._decoder.decode(chunk))
        for line in lines:
            if not line:
                yield Message(self._event or "message", "\n".join(self._data) if self._data else None, self.last_id)
                self._event, self._data = "", []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._event = value
            elif name == "id" and "\0" not in value:
                self.last_id = value


def read(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Read the messages of a whole stream.

    Args:
        chunks: the body, in any pieces.
    """
    reader = Reader()
    for chunk in chunks:
        yield from reader.feed(chunk)
