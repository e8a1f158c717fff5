"""Where the bytes of files are kept: on a disk here, or in a store elsewhere.

A driver is one module, one line in `DRIVERS`, and `hypersend_storage.conformance` passed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from hypersend_storage.base import (
    ChunkReceipt,
    ChunkSlot,
    Layout,
    LocalPath,
    Measured,
    NamedFirst,
    Piece,
    Presigned,
    Receipt,
    SignedRequest,
    Store,
    StoredItem,
    UploadRef,
    VolatileWrites,
)
from hypersend_storage.errors import (
    ChunkBusy,
    ChunksLost,
    DigestMismatch,
    ObjectMissing,
    PrefixLost,
    SizeMismatch,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)

DRIVERS = {
    "local": "hypersend_storage.local:LocalStore",
    "s3": "hypersend_storage.s3:S3Store",
}
"""Name → module and class; the module, and with it the driver's own packages, is imported when it is asked for."""


def make_store(name: str, **options: Any) -> Store:
    """A store that is not open yet; `options` are those of the driver's class.

    Raises: KeyError where no driver has this name; ImportError where the driver's package is not installed.
    """
    module, _, driver = DRIVERS[name].partition(":")
    return cast("Store", getattr(import_module(module), driver)(**options))


__all__ = [
    "DRIVERS",
    "ChunkBusy",
    "ChunkReceipt",
    "ChunkSlot",
    "ChunksLost",
    "DigestMismatch",
    "Layout",
    "LocalPath",
    "Measured",
    "NamedFirst",
    "ObjectMissing",
    "Piece",
    "PrefixLost",
    "Presigned",
    "Receipt",
    "SignedRequest",
    "SizeMismatch",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "Store",
    "StoredItem",
    "UploadLost",
    "UploadRef",
    "VolatileWrites",
    "make_store",
]
