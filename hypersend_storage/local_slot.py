"""One chunk of an upload on a disk of this machine: an open file, the lock on a range of it, and what is written."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hypersend_storage.base import MIB, ChunkReceipt, ChunkSlot, Layout, Piece
from hypersend_storage.errors import DigestMismatch, SizeMismatch, StorageFull, StorageUnavailable, UploadLost
from hypersend_storage.ofd import lock_range
from hypersend_storage.pool import Pool

if TYPE_CHECKING:
    from hashlib import _Hash

# A kernel that keeps pages in large folios (ext4 since Linux 6.16) looks for as much contiguous memory as one write has
# bytes, and with 1 MiB spends more of the processor on finding it than on the write: docs/decisions.md has figures.
WRITE_BYTES = 128 * 1024


class LocalSlot(ChunkSlot):
    """One chunk of an upload, and the open file that holds its lock."""

    def __init__(self, pool: Pool, path: Path, layout: Layout, index: int, buffer_bytes: int) -> None:
        if not 0 <= index < layout.chunk_count:
            raise ValueError(f"there is no chunk {index}")
        self._pool = pool
        self._path = path
        self._index = index
        self._start = index * layout.chunk_size
        self._size = layout.chunk_bytes(index)
        self._buffer_bytes = buffer_bytes
        self._descriptor = -1
        self._in_place = 0
        self._digests: list[_Hash] = []

    def take(self) -> None:
        """In a thread: open the file and lock the chunk."""
        with translated():
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise UploadLost("the upload's file is gone") from error
            lock_range(self._descriptor, self._start, self._size)
            # It may have been completed or removed between the two calls, and then this would write into a file.
            if not is_at(self._descriptor, self._path):
                raise UploadLost("the upload has ended")

    def release(self) -> None:
        """Let the lock go. No thread is at work here: whatever waits for one does so to its end."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)

    @property
    def in_place(self) -> int:
        return self._in_place

    async def write(
        self, body: AsyncIterator[Piece], *, offset: int, sha256: bytes | None, body_sha256: bytes | None = None
    ) -> ChunkReceipt:
        if not 0 <= offset <= self._size:
            raise ValueError(f"the chunk has no offset {offset}")
        expected = self._size - offset
        self._in_place = offset
        whole = await self._pool.run(self._hash, offset) if offset else new_sha256()
        # From the first byte on, the body is the chunk: one pass of hashing serves both claims.
        of_body = new_sha256() if offset and body_sha256 is not None else whole
        self._digests = [whole] if of_body is whole else [whole, of_body]

        received = await self._pool.feed(body, self._store, expected=expected, batch_bytes=self._buffer_bytes)
        if received > expected:
            self._in_place = 0
        if received != expected:
            raise SizeMismatch(expected, received)
        for claimed, digest in ((body_sha256, of_body), (sha256, whole)):
            if claimed is not None and digest.digest() != claimed:
                self._in_place = 0
                raise DigestMismatch(digest.digest())
        return ChunkReceipt(self._index, self._size, whole.digest())

    async def sha256(self) -> bytes:
        return (await self._pool.run(self._hash, self._size)).digest()

    def _store(self, parts: list[Piece]) -> None:
        for part in parts:
            for digest in self._digests:
                digest.update(part)
        for remaining in in_small_writes(parts):
            while remaining:
                with translated():
                    written = os.pwritev(self._descriptor, remaining, self._start + self._in_place)
                self._in_place += written
                while remaining and written >= len(remaining[0]):
                    written -= len(remaining.pop(0))
                if written:
                    remaining[0] = remaining[0][written:]
        if self._in_place == self._size and hasattr(os, "posix_fadvise"):
            # Linux begins to write it to the disk now, and does not wait: little is left for whoever completes it.
            with suppress(OSError):  # a hint, which not every file system takes
                os.posix_fadvise(self._descriptor, self._start, self._size, os.POSIX_FADV_DONTNEED)

    def _hash(self, length: int) -> _Hash:
        """SHA-256 over the first `length` bytes of the chunk."""
        digest = new_sha256()
        buffer = memoryview(bytearray(min(MIB, length)))
        position = 0
        while position < length:
            with translated():
                count = os.preadv(self._descriptor, [buffer[:length - position]], self._start + position)
            if not count:
                raise UploadLost("the upload's file is shorter than it was made")
            digest.update(buffer[:count])
            position += count
        return digest


def in_small_writes(parts: Iterable[Piece]) -> Iterator[list[memoryview]]:
    """The same bytes in lists of at most WRITE_BYTES each."""
    batch: list[memoryview] = []
    room = WRITE_BYTES
    for part in parts:
        view = memoryview(part)
        while view:
            batch.append(view[:room])
            view, room = view[room:], room - len(batch[-1])
            if not room:
                yield batch
                batch, room = [], WRITE_BYTES
    if batch:
        yield batch


@contextmanager
def translated() -> Iterator[None]:
    """What the operating system refuses, as a StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(str(error)) from error
        raise StorageUnavailable(str(error)) from error


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
