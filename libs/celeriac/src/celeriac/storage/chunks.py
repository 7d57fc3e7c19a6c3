"""Objects in chunks of one size: read from a stream, and read back as a seekable file with one chunk in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def read_chunks(content: IO[bytes], size: int) -> Iterator[bytes]:
    """Read a stream to its end in chunks of exactly `size` bytes, the last one shorter; nothing for an empty stream.

    Sockets and pipes give less than they are asked for, so each chunk is gathered from as many reads as it takes.
    """
    while True:
        parts: list[bytes] = []
        missing = size
        while missing and (part := content.read(missing)):
            parts.append(part)
            missing -= len(part)
        if parts:
            yield b"".join(parts)
        if missing:
            return


class CountedChunks(Iterator[bytes]):
    """The chunks of a stream on their way into a store.

    Args:
        content: read to its end.
        size: the bytes of each chunk; the last one may be shorter.
    """

    def __init__(self, content: IO[bytes], size: int) -> None:
        self._chunks = read_chunks(content, size)
        #: Bytes given so far.
        self.size = 0
        #: Whether reading the stream raised: then that is the error, and not that the store is away.
        self.failed = False

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            raise
        except BaseException:
            self.failed = True
            raise
        self.size += len(chunk)
        return chunk


class ChunkReader(io.RawIOBase):
    """A seekable file over chunks that are fetched when they are needed, one in memory at a time.

    Args:
        size: the bytes of the whole object.
        chunk_size: the bytes of each chunk; the last one may be shorter.
        fetch: gives the chunk of a number, counted from 0; what it raises reaches the reader.
    """

    def __init__(self, size: int, chunk_size: int, fetch: Callable[[int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._chunk_size = chunk_size
        self._fetch = fetch
        self._position = 0
        self._number = -1
        self._chunk = b""

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can be moved in: always."""
        return True

    def tell(self) -> int:
        """The position in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; nothing is fetched until the next read."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            msg = f"cannot seek to {origin + offset}: before the start"
            raise ValueError(msg)
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from the chunk at the position, at most to the end of that chunk."""
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, self._chunk_size)
        if number != self._number:
            self._chunk = self._fetch(number)
            self._number = number
        target = memoryview(buffer).cast("B")
        part = self._chunk[offset : offset + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)
