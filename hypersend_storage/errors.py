"""What a store can refuse. Drivers translate their vendor's errors into these; nothing else leaves a driver.

StorageError
├── StorageUnavailable    the store cannot be reached, or failed in a way that may pass: try again
├── StorageFull           no room (ENOSPC, EDQUOT, an object store's quota)
├── DigestMismatch        the bytes are not what their digest claims; they earn nothing
├── SizeMismatch          the body was longer or shorter than it had to be
├── ChunkBusy             another process is writing this chunk
├── UploadLost            the store no longer has the upload's bytes
└── ObjectMissing         nothing is stored at this location
"""

from __future__ import annotations


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


class UploadLost(StorageError):
    """The store no longer has the bytes of this upload; it must start again."""


class ObjectMissing(StorageError):
    """Nothing is stored at this location."""
