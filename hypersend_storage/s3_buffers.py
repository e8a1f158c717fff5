"""Memory for chunks on their way to an object store, shared by all streams.

A stream reserves the whole of its chunk before it reads a byte, in the order of asking, so that those who have begun
can always end. What a cut request left behind, a *prefix*, stays in its buffer for the request that goes on with it,
until somebody needs the room: then the oldest goes first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

IDLE = 3
"""Buffers without a stream whose memory is kept: to have it made and cleared anew for each chunk takes as long as
hashing the chunk."""

Chunk = tuple[str, int]
"""An upload's object key, and the index of a chunk."""


class Buffer:
    """Room for one chunk; the first `filled` bytes are there."""

    __slots__ = ("data", "filled")

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.filled = 0


class Buffers:
    """size_bytes: of all buffers together."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.used_bytes = 0
        """Of buffers that are held or kept; never above `size_bytes`."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._kept: OrderedDict[Chunk, Buffer] = OrderedDict()
        self._idle: deque[bytearray] = deque(maxlen=IDLE)

    async def take(self, size: int) -> Buffer:
        """Wait for room; whoever asked first gets it first."""
        if size > self.size_bytes:
            raise ValueError(f"no chunk of {size} bytes fits into {self.size_bytes} bytes of buffers")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the room came in the same moment
                self.used_bytes -= size
            self._serve()
            raise
        return Buffer(self._memory(size))

    def _memory(self, size: int) -> bytearray:
        """Of this size, used before where possible. What is idle has room only as long as nobody needs it."""
        for at, data in enumerate(self._idle):
            if len(data) == size:
                del self._idle[at]
                return data
        while self._idle and self.used_bytes + sum(map(len, self._idle)) > self.size_bytes:
            self._idle.popleft()
        return bytearray(size)

    def give_back(self, buffer: Buffer) -> None:
        self.used_bytes -= len(buffer.data)
        self._idle.append(buffer.data)
        self._serve()

    def keep(self, chunk: Chunk, buffer: Buffer) -> None:
        """Hold on to a prefix for as long as nobody needs its room."""
        before = self._kept.pop(chunk, None)
        self._kept[chunk] = buffer
        if before is not None:
            self.give_back(before)
        self._serve()

    def kept(self, chunk: Chunk) -> Buffer | None:
        """The buffer with the chunk's prefix, which is the caller's from now on."""
        return self._kept.pop(chunk, None)

    def forget(self, key: str) -> None:
        """Drop the prefixes of an upload that has ended."""
        for chunk in [chunk for chunk in self._kept if chunk[0] == key]:
            self.give_back(self._kept.pop(chunk))

    def _serve(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            while self.used_bytes + size > self.size_bytes and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self.used_bytes -= len(oldest.data)
                self._idle.append(oldest.data)
            if self.used_bytes + size > self.size_bytes:
                return
            self._waiting.popleft()
            self.used_bytes += size
            turn.set_result(None)
