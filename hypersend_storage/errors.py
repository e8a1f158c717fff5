"""What a store can refuse. Drivers translate their vendor's errors into these; nothing else leaves a driver.

StorageError
├── StorageUnavailable    the store cannot be reached, or failed in a way that may pass: try again
├── StorageFull           no room (ENOSPC, EDQUOT, an object store's quota)
├── DigestMismatch        the bytes are not what their digest claims; they earn nothing
├── SizeMismatch          the body was longer or shorter than it had to be
├── ChunkBusy             another process is writing this chunk
├── PrefixLost            fewer bytes of a chunk's prefix are there than the offset says
├── UploadLost            the store no longer has the upload's bytes
│   └── ChunksLost        it has the upload, but not these chunks as their receipts say
└── ObjectMissing         nothing is stored at this location
"""

from __future__ import annotations

from collections.abc import Sequence


class StorageError(Exception):
    """Base of everything a driver raises on purpose."""


class StorageUnavailable(StorageError):
    """The store cannot be reached or failed in a way that may pass."""


class StorageFull(StorageError):
    """There is no room left for these bytes."""


class DigestMismatch(StorageError):
    """The bytes have another SHA-256 than the one claimed.

    actual: 32 bytes, what the bytes really hash to.
    """

    def __init__(self, actual: bytes) -> None:
        super().__init__("the bytes do not have the digest that was claimed")
        self.actual = actual


class SizeMismatch(StorageError):
    """The body was longer or shorter than the exact size it had to have.

    expected, received: bytes of this body; `received` counts up to the first byte too many.
    """

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"expected {expected} bytes, received {received}")
        self.expected = expected
        self.received = received


class ChunkBusy(StorageError):
    """Another process holds this chunk (or this whole file) at the moment."""


class PrefixLost(StorageError):
    """A chunk cannot be gone on with from this offset.

    have: bytes of its prefix that are there, fewer than the offset.
    """

    def __init__(self, have: int) -> None:
        super().__init__(f"{have} bytes of the chunk's prefix are there")
        self.have = have


class UploadLost(StorageError):
    """The store no longer has the bytes of this upload; it must start again."""


class ChunksLost(UploadLost):
    """The upload is there, but some of its chunks are not, or not with the bytes that earned the receipt.

    indexes: of the chunks whose receipts must go; the others stay as they are.
    """

    def __init__(self, indexes: Sequence[int]) -> None:
        super().__init__(f"the store does not have {len(indexes)} chunks as they were received")
        self.indexes = list(indexes)


class ObjectMissing(StorageError):
    """Nothing is stored at this location."""
