"""A driver as CONTRIBUTING describes it, small enough to be read at one sitting: bytes in this process's memory.

A location is `uploads/ID/N` while the upload is in flight and `files/ID/N` afterwards. Instances of the same `place`
share everything, as processes over one real store do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256 as new_sha256

from hypersend_storage.base import MIB, ChunkReceipt, ChunkSlot, Layout, Store, StoredItem, UploadRef
from hypersend_storage.errors import (
    ChunkBusy,
    ChunksLost,
    DigestMismatch,
    ObjectMissing,
    PrefixLost,
    SizeMismatch,
    UploadLost,
)


@dataclass
class Place:
    """uploads: location → chunk index → bytes. files: location → bytes. busy: chunks that have a writer."""

    uploads: dict[str, dict[int, bytearray]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    busy: set[tuple[str, int]] = field(default_factory=set)
    numbers: itertools.count[int] = field(default_factory=itertools.count)


PLACES: dict[str, Place] = {}


class MemorySlot(ChunkSlot):
    def __init__(self, chunks: dict[int, bytearray], index: int, size: int) -> None:
        self._chunks = chunks
        self._index = index
        self._size = size

    @property
    def in_place(self) -> int:
        return len(self._chunks.get(self._index, b""))

    async def write(
        self, body: AsyncIterator[bytes], *, offset: int, sha256: bytes | None, body_sha256: bytes | None = None
    ) -> ChunkReceipt:
        if offset > self.in_place:
            raise PrefixLost(self.in_place)
        kept = self._chunks.setdefault(self._index, bytearray())
        del kept[offset:]
        expected = self._size - offset
        async for part in body:
            if len(kept) + len(part) > self._size:
                kept.clear()
                raise SizeMismatch(expected, expected + 1)
            kept += part
        if len(kept) < self._size:
            raise SizeMismatch(expected, len(kept) - offset)
        for claimed, data in ((body_sha256, kept[offset:]), (sha256, kept)):
            actual = new_sha256(data).digest()
            if claimed is not None and actual != claimed:
                kept.clear()
                raise DigestMismatch(actual)
        return ChunkReceipt(self._index, self._size, new_sha256(kept).digest())

    async def sha256(self) -> bytes:
        if self._index not in self._chunks:
            raise UploadLost("this chunk is not here")
        return new_sha256(self._chunks[self._index]).digest()


class MemoryStore(Store):
    """place: instances of the same name share everything."""

    name = "memory"
    locks_out_processes = True
    lists_uploads = True

    def __init__(self, *, place: str) -> None:
        self._place = PLACES.setdefault(place, Place())

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def create(self, file_id: str, layout: Layout) -> str:
        location = f"uploads/{file_id}/{next(self._place.numbers)}"
        self._place.uploads[location] = {}
        return location

    def _chunks(self, upload: UploadRef) -> dict[int, bytearray]:
        try:
            return self._place.uploads[upload.location]
        except KeyError:
            raise UploadLost("this upload is not here") from None

    def _require_idle(self, upload: UploadRef) -> None:
        if any(location == upload.location for location, _ in self._place.busy):
            raise ChunkBusy("a chunk is being written")

    @asynccontextmanager
    async def chunk(self, upload: UploadRef, index: int) -> AsyncIterator[MemorySlot]:
        held = (upload.location, index)
        chunks = self._chunks(upload)
        if held in self._place.busy:
            raise ChunkBusy("another request is writing here")
        self._place.busy.add(held)
        try:
            yield MemorySlot(chunks, index, upload.layout.chunk_bytes(index))
        finally:
            self._place.busy.discard(held)

    async def read_received(self, upload: UploadRef, body: AsyncIterator[bytes], *, expected: int) -> bytes:
        digest, received = new_sha256(), 0
        async for part in body:
            received += len(part)
            if received > expected:
                raise SizeMismatch(expected, expected + 1)
            digest.update(part)
        if received != expected:
            raise SizeMismatch(expected, received)
        return digest.digest()

    async def sync(self, upload: UploadRef) -> None:
        if _completed(upload.location) not in self._place.files:
            self._chunks(upload)

    async def complete(self, upload: UploadRef, receipts: Sequence[ChunkReceipt]) -> str:
        location = _completed(upload.location)
        if location in self._place.files:
            return location
        chunks = self._chunks(upload)
        self._require_idle(upload)
        lost = [receipt.index for receipt in receipts
                if new_sha256(chunks.get(receipt.index, b"")).digest() != receipt.sha256]
        if lost:
            raise ChunksLost(lost)
        self._place.files[location] = b"".join(bytes(chunks[receipt.index]) for receipt in receipts)
        del self._place.uploads[upload.location]
        return location

    async def abort(self, upload: UploadRef) -> None:
        self._require_idle(upload)
        self._place.uploads.pop(upload.location, None)

    async def delete(self, location: str) -> None:
        self._place.files.pop(location, None)
        self._place.uploads.pop(location, None)

    async def size(self, location: str) -> int | None:
        data = self._place.files.get(location)
        return None if data is None else len(data)

    async def read(self, location: str, start: int, length: int) -> AsyncIterator[bytes]:
        if location not in self._place.files:
            raise ObjectMissing("nothing is here")
        data = self._place.files[location][start:start + length]
        for at in range(0, len(data), MIB):
            yield data[at:at + MIB]

    async def items(self) -> AsyncIterator[StoredItem]:
        now = int(time.time() * 1000)
        for location, chunks in list(self._place.uploads.items()):
            size = sum(map(len, chunks.values()))
            yield StoredItem(location, location.split("/")[1], True, size, now)
        for location, data in list(self._place.files.items()):
            yield StoredItem(location, location.split("/")[1], False, len(data), now)

    async def free_bytes(self) -> int | None:
        return None


def _completed(location: str) -> str:
    return "files/" + location.removeprefix("uploads/")
