"""One chunk of an upload on its way to an object store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256 as new_sha256
from typing import TYPE_CHECKING

from hypersend_storage.base import ChunkReceipt, ChunkSlot, Piece, UploadRef
from hypersend_storage.errors import DigestMismatch, PrefixLost, SizeMismatch, UploadLost
from hypersend_storage.pool import Pool
from hypersend_storage.s3_api import S3Api
from hypersend_storage.s3_buffers import Buffer, Buffers

if TYPE_CHECKING:
    from hashlib import _Hash

BATCH_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A multipart upload. has_checksums: whether it was created to keep the SHA-256 of its parts."""

    key: str
    upload_id: str
    has_checksums: bool


class S3Slot(ChunkSlot):
    """Gathers the chunk in memory, and sends it as one part once its digests agree.

    bodies: threads that copy and hash. sending: threads that wait for the store.
    """

    def __init__(
        self, api: S3Api, buffers: Buffers, bodies: Pool, sending: Pool, target: Target, upload: UploadRef, index: int
    ) -> None:
        layout = upload.layout
        if not 0 <= index < layout.chunk_count:
            raise ValueError(f"there is no chunk {index}")
        self._api = api
        self._buffers = buffers
        self._bodies = bodies
        self._sending = sending
        self._target = target
        self._sender = upload.sender
        self._index = index
        self._size = layout.chunk_bytes(index)
        self._buffer: Buffer | None = buffers.kept((target.key, index))
        self._digests: list[_Hash] = []

    @property
    def in_place(self) -> int:
        return 0 if self._buffer is None else self._buffer.filled

    async def wait_for_room(self) -> None:
        if self._buffer is None:
            self._buffer = await self._buffers.take(self._size, self._sender)

    async def write(
        self, body: AsyncIterator[Piece], *, offset: int, sha256: bytes | None, body_sha256: bytes | None = None
    ) -> ChunkReceipt:
        if not 0 <= offset <= self._size:
            raise ValueError(f"the chunk has no offset {offset}")
        if offset > self.in_place:
            raise PrefixLost(self.in_place)
        await self.wait_for_room()
        buffer = self._buffer
        assert buffer is not None
        buffer.filled = offset
        whole = await self._bodies.run(new_sha256, memoryview(buffer.data)[:offset]) if offset else new_sha256()
        of_body = new_sha256() if offset and body_sha256 is not None else whole
        self._digests = [whole] if of_body is whole else [whole, of_body]

        expected = self._size - offset
        received = await self._bodies.feed(body, self._gather, expected=expected, batch_bytes=BATCH_BYTES)
        if received > expected:
            buffer.filled = 0
        if received != expected:
            raise SizeMismatch(expected, received)
        for claimed, digest in ((body_sha256, of_body), (sha256, whole)):
            if claimed is not None and digest.digest() != claimed:
                buffer.filled = 0
                raise DigestMismatch(digest.digest())
        return await self._send(buffer, whole.digest())

    async def sha256(self) -> bytes:
        part = await self._sending.run(self._listed)
        if part is None:
            raise UploadLost("the object store keeps no digest of this chunk")
        return part

    def leave(self) -> None:
        """Keep a prefix for the next request, let everything else go. No thread is at work here."""
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            return
        if buffer.filled:
            self._buffers.keep((self._target.key, self._index), buffer)
        else:
            self._buffers.give_back(buffer)

    async def _send(self, buffer: Buffer, digest: bytes) -> ChunkReceipt:
        target = self._target
        try:
            tag = await self._sending.run(
                self._api.put_part, target.key, target.upload_id, self._index + 1, buffer.data, digest,
                with_checksum=target.has_checksums)
        except UploadLost:
            buffer.filled = 0
            raise
        # Others wait for the room; the slot is held for longer, until the receipt is recorded.
        self._buffer = None
        self._buffers.give_back(buffer)
        return ChunkReceipt(self._index, self._size, digest, tag)

    def _gather(self, parts: list[Piece]) -> None:
        assert self._buffer is not None
        for part in parts:
            for digest in self._digests:
                digest.update(part)
            end = self._buffer.filled + len(part)
            self._buffer.data[self._buffer.filled:end] = part
            self._buffer.filled = end

    def _listed(self) -> bytes | None:
        number = self._index + 1
        for part in self._api.parts(self._target.key, self._target.upload_id, after=self._index, limit=1):
            if part.number == number:
                return part.sha256
        return None
