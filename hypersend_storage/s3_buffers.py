"""Memory for chunks on their way to an object store, shared by all streams.

A stream reserves the whole of its chunk before it reads a byte, in the order of asking, so that those who have begun
can always end. One person's streams hold half of the memory at most, however many they are and however slowly they
send, unless a single chunk is more. What a cut request left behind, a *prefix*, stays in its buffer for the request
that goes on with it, until somebody needs the room: then the oldest goes first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

IDLE = 3
"""Buffers without a stream whose memory is kept: to have it made and cleared anew for each chunk takes as long as
hashing the chunk."""

Chunk = tuple[str, int]
"""An upload's object key, and the index of a chunk."""


class Buffer:
    """Room for one chunk; the first `filled` bytes are there."""

    __slots__ = ("data", "filled", "owner")

    def __init__(self, data: bytearray, owner: str) -> None:
        self.data = data
        self.filled = 0
        self.owner = owner


class Buffers:
    """size_bytes: of all buffers together."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.used_bytes = 0
        """Of buffers that are held or kept; never above `size_bytes`."""
        self._held: Counter[str] = Counter()  # bytes of each person's streams, without what is kept
        self._waiting: list[tuple[int, str, asyncio.Future[None]]] = []
        self._kept: OrderedDict[Chunk, Buffer] = OrderedDict()
        self._idle: deque[bytearray] = deque(maxlen=IDLE)

    async def take(self, size: int, owner: str) -> Buffer:
        """Wait for room; whoever asked first gets it first, but for those who have half of all already."""
        if size > self.size_bytes:
            raise ValueError(f"no chunk of {size} bytes fits into {self.size_bytes} bytes of buffers")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, owner, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the room came in the same moment
                self.used_bytes -= size
                self._lend(owner, -size)
            self._serve()
            raise
        return Buffer(self._memory(size), owner)

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
        self._lend(buffer.owner, -len(buffer.data))
        self._free(buffer)
        self._serve()

    def keep(self, chunk: Chunk, buffer: Buffer) -> None:
        """Hold on to a prefix for as long as nobody needs its room."""
        self._lend(buffer.owner, -len(buffer.data))
        before = self._kept.pop(chunk, None)
        self._kept[chunk] = buffer
        if before is not None:
            self._free(before)
        self._serve()

    def kept(self, chunk: Chunk) -> Buffer | None:
        """The buffer with the chunk's prefix, which is the caller's from now on; gone where its owner has too much."""
        buffer = self._kept.pop(chunk, None)
        if buffer is None:
            return None
        if self._has_half(buffer.owner, len(buffer.data)):
            self._free(buffer)
            self._serve()
            return None
        self._lend(buffer.owner, len(buffer.data))
        return buffer

    def forget(self, key: str) -> None:
        """Drop the prefixes of an upload that has ended."""
        for chunk in [chunk for chunk in self._kept if chunk[0] == key]:
            self._free(self._kept.pop(chunk))
        self._serve()

    def _has_half(self, owner: str, size: int) -> bool:
        """Whether so many bytes more would be too much for this person; what is alone never is."""
        return bool(self._held[owner]) and self._held[owner] + size > self.size_bytes // 2

    def _lend(self, owner: str, size: int) -> None:
        self._held[owner] += size
        if not self._held[owner]:
            del self._held[owner]

    def _free(self, buffer: Buffer) -> None:
        self.used_bytes -= len(buffer.data)
        self._idle.append(buffer.data)

    def _serve(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[2].done()]
        for size, owner, turn in self._waiting:
            if self._has_half(owner, size):
                continue
            while self.used_bytes + size > self.size_bytes and self._kept:
                self._free(self._kept.popitem(last=False)[1])
            if self.used_bytes + size > self.size_bytes:
                return
            self.used_bytes += size
            self._lend(owner, size)
            turn.set_result(None)
