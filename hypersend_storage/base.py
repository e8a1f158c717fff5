"""The contract of a store: where file bytes are kept.

A file is cut into chunks of equal size, the last one shorter. The bytes of an upload arrive chunk by chunk,
in any order and in parallel; which chunks count (have a *receipt*) is the caller's knowledge, kept in metadata.
A store holds bytes and locks, never that state, so that any process can take the next chunk.

`hypersend_storage.conformance` is the suite that every driver passes. Powers that only some stores have are
the small classes at the end, which a driver inherits; ask with `isinstance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

MIB = 1024 * 1024
Piece = bytes | bytearray | memoryview
"""Of a body. Whoever gets one may keep it: it does not change any more."""
MIN_CHUNK_BYTES = 8 * MIB
MAX_CHUNKS = 9000


def chunk_size_for(size: int) -> int:
    """Equal chunks of whole MiB, so few that S3 takes each as a part (10,000 of at least 5 MiB)."""
    return max(MIN_CHUNK_BYTES, -(-size // (MAX_CHUNKS * MIB)) * MIB)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is cut: `size` and `chunk_size` in bytes; an empty file has no chunks."""

    size: int
    chunk_size: int

    @property
    def chunk_count(self) -> int:
        return -(-self.size // self.chunk_size)

    def chunk_bytes(self, index: int) -> int:
        """The exact size of chunk `index`, which must be within 0 … chunk_count - 1."""
        return min(self.chunk_size, self.size - index * self.chunk_size)


@dataclass(frozen=True, slots=True)
class UploadRef:
    """An upload in flight as the caller's records know it.

    location: what `create` answered, opaque to everyone but the driver. sender: whoever sends it, where what senders
    take of the driver's memory is shared among them.
    """

    file_id: str
    location: str
    layout: Layout
    sender: str = ""


class Receipt(Protocol):
    """A whole chunk that is in place, as whoever keeps receipts has it; `ChunkReceipt` is one."""

    @property
    def index(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> bytes: ...
    @property
    def tag(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ChunkReceipt:
    """A whole chunk that is in place: `sha256` is 32 raw bytes. `tag` is the store's own (S3: ETag), or ''."""

    index: int
    size: int
    sha256: bytes
    tag: str = ""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One thing the store holds, for housekeeping.

    location: as in records; `uploading` tells an upload's bytes from a complete file's.
    size: bytes really taken where that is known. modified_ms: Unix time in milliseconds of the last change.
    """

    location: str
    file_id: str
    uploading: bool
    size: int
    modified_ms: int


class ChunkSlot(Protocol):
    """The right to write one chunk, held until the `async with` around it ends."""

    @property
    def in_place(self) -> int:
        """Bytes of this chunk, counted from its first, that the last `write` left in place as a prefix."""

    async def wait_for_room(self) -> None:
        """Until `write` has room in memory for what it gathers, for as long as others need it; `write` waits as well.

        It may be cancelled. Drivers that need no room of their own leave it as it is.
        """
        return

    async def write(self, body: AsyncIterator[Piece], *, offset: int, sha256: bytes | None,
                    body_sha256: bytes | None = None) -> ChunkReceipt:
        """Store the chunk's bytes from `offset` to its end.

        body: byte parts of any length, in order; together exactly the chunk's size less `offset`.
        offset: bytes of the chunk already in place as a prefix; they are hashed again from the store.
        sha256: 32 bytes, what the whole chunk must hash to, or None.
        body_sha256: 32 bytes, what this body alone must hash to, or None.
        Returns: the receipt of the whole chunk; the caller records it before the slot is left.
        Raises: DigestMismatch or SizeMismatch of a body that is too long (`in_place` is then 0), SizeMismatch of one
            that is too short, StorageFull, StorageUnavailable, UploadLost. What `body` raises passes through. After
            a body that was too short, cut off or cancelled, or a full store, the bytes that reached the store stay
            as a prefix and `in_place` says how many. PrefixLost, before the body is touched, where a store that
            keeps prefixes in memory has fewer than `offset` bytes of it (`in_place` and `have` say how many).
        """

    async def sha256(self) -> bytes:
        """SHA-256 (32 bytes) of the whole chunk as it stands in the store now.

        Raises: UploadLost, StorageUnavailable.
        """


class Store(Protocol):
    """Where bytes live. All methods are safe to call from several processes at once unless they say otherwise."""

    name: str
    """The driver's name in the table and in file records: 'local', 's3'."""

    locks_out_processes: bool = True
    """Whether a chunk's lock, and ChunkBusy, also hold against other processes. Where not, two processes may write
    one chunk at once; then `complete` finds what the store really has, and raises ChunksLost where that is not what
    the receipts say."""

    lists_uploads: bool = True
    """Whether `items` is sure to show every upload in flight. Where not, those come from the caller's records."""

    async def open(self) -> None:
        """Check what the driver needs (folders, permissions, locks) and start its pools.

        Raises: StorageUnavailable with a sentence for the operator.
        """

    async def close(self) -> None:
        """Wait for writes in flight and release everything. May be called twice."""

    async def create(self, file_id: str, layout: Layout) -> str:
        """Begin an upload; nothing is written yet that takes the file's size. Returns its location.

        file_id: 1–64 of A–Z a–z 0–9 _ -; several uploads of one file may exist, each at a location of its own.
        Raises: StorageFull, StorageUnavailable.
        """

    def chunk(self, upload: UploadRef, index: int) -> AbstractAsyncContextManager[ChunkSlot]:
        """Take the chunk's lock without waiting for another process.

        Entering raises: ChunkBusy, UploadLost, StorageUnavailable. Leaving waits for the slot's last write to
        reach the store, also when the task is cancelled, and only then lets the lock go.
        """

    async def read_received(self, upload: UploadRef, body: AsyncIterator[Piece], *, expected: int) -> bytes:
        """Read and hash a body of exactly `expected` bytes without keeping it (a repeat of a chunk).

        Returns: its SHA-256, 32 bytes. Raises: SizeMismatch; what `body` raises passes through.
        """

    async def sync(self, upload: UploadRef) -> None:
        """Make every byte written so far survive a crash of the machine.

        Raises: StorageUnavailable (bytes since the last sync must then count as lost, also where a full disk is the
            reason), UploadLost. An upload that has been completed is durable and raises nothing.
        """

    async def complete(self, upload: UploadRef, receipts: Sequence[Receipt]) -> str:
        """Turn the upload into a file; time does not depend on its size. Returns the file's location.

        receipts: all chunks, by index. Repeatable: after a cut in the middle the same call carries on from
        whichever half exists, and a completed one answers the same location again.
        Raises: ChunkBusy while a chunk is being written, UploadLost, ChunksLost (an UploadLost: these chunks alone
            must be sent again, and the upload goes on), StorageFull, StorageUnavailable. A store with volatile
            writes reports lost bytes once only: sync before the receipts are counted, not here.
        """

    async def abort(self, upload: UploadRef) -> None:
        """Remove the upload's bytes now. Gone already is fine. Raises: ChunkBusy, StorageUnavailable."""

    async def delete(self, location: str) -> None:
        """Remove a complete file's bytes, or those of an upload that nobody knows. Gone already is fine.

        Raises: StorageUnavailable.
        """

    async def size(self, location: str) -> int | None:
        """Bytes of the complete file at `location`, or None where nothing is."""

    def read(self, location: str, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes start … start+length-1 of a complete file, in parts of at most 1 MiB.

        Raises: ObjectMissing before the first part, StorageUnavailable.
        """

    def items(self) -> AsyncIterator[StoredItem]:
        """Everything the store holds for us, complete and in flight, in no order."""

    async def free_bytes(self) -> int | None:
        """Bytes that can still be stored, or None where a store does not know."""


class Threads(Protocol):
    """A pool of threads in numbers. jobs: given to it so far; waited_s: how long those waited, together."""

    name: str
    jobs: int
    waited_s: float

    @property
    def waiting(self) -> int: ...


@runtime_checkable
class Measured(Protocol):
    """A store that tells how busy its threads are."""

    @property
    def pools(self) -> Sequence[Threads]: ...


class LocalPath(ABC):
    """A store whose complete files are files of this machine: sendfile and X-Accel-Redirect can serve them."""

    @abstractmethod
    def path(self, location: str) -> Path:
        """The absolute path of a complete file's bytes."""

    @abstractmethod
    def relative_path(self, location: str) -> str:
        """The same below the store's root, with '/' between its parts, as a proxy in front names it."""


class VolatileWrites(ABC):
    """A store whose acknowledged bytes are lost by a crash of the machine unless `sync` has run since."""

    @abstractmethod
    def boot_id(self) -> str:
        """Names the present boot of this machine; receipts that carry another one and were not durable are void
        until the bytes were hashed again."""


class NamedFirst(ABC):
    """A store that may not list what was begun and then forgotten. So a location is recorded before anything of the
    upload exists, and again once it has begun:

        location = store.reserve(file_id)       record it
        location = await store.begin(upload)    record it in place of the first; if another process was faster with
                                                that, `abort` this one and take what it recorded
    `create` is both at once, for callers to whom an empty upload that nobody finds does not matter.
    """

    @abstractmethod
    def reserve(self, file_id: str) -> str:
        """A location for a new upload; nothing is there yet. `abort` and `delete` take it too."""

    @abstractmethod
    async def begin(self, upload: UploadRef) -> str:
        """Begin what was reserved. Returns its location; one that has begun is answered as it is, without asking
        the store.

        Raises: StorageFull, StorageUnavailable.
        """

    @abstractmethod
    def has_begun(self, location: str) -> bool:
        """Whether it is what `begin` answered, and not what `reserve` did."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """One request that a client may send to the store itself.

    headers: all signed ones but Content-Length and Host, which the client's HTTP stack sets.
    """

    method: str
    url: str
    headers: Mapping[str, str]


class Presigned(ABC):
    """A store to which clients send parts, and from which they fetch files, by signed URLs."""

    @property
    @abstractmethod
    def is_direct(self) -> bool:
        """Whether URLs may be handed out: switched on, and the store refused a wrong checksum when it was tried.
        Where it is False, only `parts` is of use."""

    @abstractmethod
    def tells_checksums(self, upload: UploadRef) -> bool:
        """Whether `parts` tells the SHA-256 of this upload's parts. Where not, for example because it was begun while
        the store kept none, only receipts say what has arrived: nobody may send parts to the store directly."""

    @abstractmethod
    def sign_part(self, upload: UploadRef, index: int, sha256: bytes, expires_s: int) -> SignedRequest:
        """A PUT that is good for exactly the bytes of chunk `index` with this SHA-256 (32 bytes), and ends."""

    @abstractmethod
    def sign_read(self, location: str, *, disposition: str, mime: str, expires_s: int) -> SignedRequest:
        """A GET of a complete file, ranges too, answered with these two headers."""

    @abstractmethod
    async def parts(self, upload: UploadRef) -> list[ChunkReceipt]:
        """What the store itself lists of an upload, by index: whole parts with their size, SHA-256 and tag; parts
        whose size or checksum cannot be those of the chunk are left out. A store that keeps no checksums answers
        with sha256 b'': then the receipt of the same tag stands.

        Raises: UploadLost, StorageUnavailable.
        """
