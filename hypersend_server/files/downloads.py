"""How bytes leave: which of them, under which headers, and from where. HTTP's rules, but no HTTP server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hypersend_server.errors import HyperSendError
from hypersend_server.files.disposition import content_disposition
from hypersend_server.files.media import INLINE
from hypersend_server.files.present import etag_of
from hypersend_server.files.ranges import Selection
from hypersend_server.metadata.files import FileRecord, Files
from hypersend_storage.base import LocalPath, Store
from hypersend_storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

SANDBOX = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"


class Source(NamedTuple):
    """Where a complete file's bytes are. path: on this machine, else None. accel: the proxy's name for it."""

    file: FileRecord
    path: Path | None
    accel: str | None


class Downloads:
    """x_accel_prefix: the proxy's location that serves the local store, without a slash at its end; '' for none."""

    def __init__(self, files: Files, stores: Mapping[str, Store], *, x_accel_prefix: str) -> None:
        self._files = files
        self._stores = stores
        self._x_accel_prefix = x_accel_prefix

    def source(self, file: FileRecord) -> Source:
        """Raises: `upload_incomplete`, `upload_expired`, `storage_unavailable`."""
        if file.state == "expired":
            raise HyperSendError("upload_expired")
        if file.state != "complete":
            raise HyperSendError("upload_incomplete")
        store = self._store(file)
        if not isinstance(store, LocalPath):
            return Source(file, None, None)
        accel = None
        if self._x_accel_prefix:
            # The proxy is given the folder of complete files and no other.
            below = store.relative_path(file.location).removeprefix("files/")
            accel = f"{self._x_accel_prefix}/{quote(below)}"
        return Source(file, store.path(file.location), accel)

    async def again(self, file: FileRecord) -> FileRecord:
        """The record of a file whose location has vanished: it was moved, or removed.

        Raises: `not_found`, or `storage_unavailable` where the bytes are gone.
        """
        now = await self._files.get(file.id)
        if now is None or now.state == "deleted":
            raise HyperSendError("not_found")
        if (now.backend, now.location) == (file.backend, file.location):
            log.error("the bytes of file %s are missing at %s on %s", file.id, file.location, file.backend)
            raise HyperSendError("storage_unavailable", "The bytes of this file cannot be found.")
        return now

    async def read(self, file: FileRecord, start: int, length: int) -> AsyncIterator[bytes]:
        """Bytes through the server, from a store without paths.

        Raises: ObjectMissing before the first part; `storage_unavailable`.
        """
        try:
            async for part in self._store(file).read(file.location, start, length):
                yield part
        except StorageUnavailable as error:
            raise HyperSendError("storage_unavailable") from error

    def _store(self, file: FileRecord) -> Store:
        store = self._stores.get(file.backend)
        if store is None:
            raise HyperSendError("storage_unavailable", "The storage of this file is not configured.")
        return store


def headers_of(file: FileRecord, selection: Selection, *, inline: bool) -> dict[str, str]:
    """The headers of an answer that carries (or, for HEAD and 304, stands for) these bytes of the file."""
    etag = etag_of(file)
    assert etag is not None, "a complete file has a checksum"
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if selection.status == 304:
        return headers
    shown = file.sniffed_mime if inline and file.sniffed_mime in INLINE else None
    headers["Content-Type"] = shown or file.mime
    headers["Content-Disposition"] = content_disposition(file.name, inline=shown is not None)
    headers["Content-Security-Policy"] = SANDBOX
    headers["X-Content-Type-Options"] = "nosniff"
    content_range = selection.content_range(file.size)
    if content_range is not None:
        headers["Content-Range"] = content_range
    return headers
