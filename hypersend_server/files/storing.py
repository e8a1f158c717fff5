"""Between records and stores: how a store knows an upload, and what its refusals are called here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import FileRecord
from hypersend_storage.base import Layout, Store, UploadRef
from hypersend_storage.errors import (
    ChunkBusy,
    DigestMismatch,
    ObjectMissing,
    PrefixLost,
    SizeMismatch,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)


def layout_of(file: FileRecord) -> Layout:
    return Layout(file.size, file.chunk_size)


def ref_of(file: FileRecord) -> UploadRef:
    return UploadRef(file.id, file.location, layout_of(file), file.owner_id)


def require_store(stores: Mapping[str, Store], backend: str) -> Store:
    """The open store of this name. Raises: `storage_unavailable`."""
    store = stores.get(backend)
    if store is None:
        raise HyperSendError("storage_unavailable", f"The storage '{backend}' is not open.")
    return store


@contextmanager
def translated() -> Iterator[None]:
    """A store's refusals as HyperSendError."""
    try:
        yield
    except DigestMismatch as error:
        raise HyperSendError("digest_mismatch", extra={"sha256": error.actual.hex()}) from error
    except SizeMismatch as error:
        raise HyperSendError(
            "chunk_size_mismatch", f"The body must have {error.expected} bytes.",
            extra={"expected": error.expected, "received": error.received}) from error
    except StorageFull as error:
        raise HyperSendError("storage_full") from error
    except ChunkBusy as error:
        raise HyperSendError("chunk_busy") from error
    except UploadLost as error:
        raise HyperSendError("upload_lost") from error
    except PrefixLost as error:
        raise HyperSendError("chunk_offset", extra={"have": error.have}) from error
    except (StorageUnavailable, ObjectMissing) as error:
        raise HyperSendError("storage_unavailable") from error
