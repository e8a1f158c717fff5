"""How bytes leave: which of them, under which headers, and from where. HTTP's rules, but no HTTP server."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hypersend_server.errors import HyperSendError
from hypersend_server.files.disposition import content_disposition
from hypersend_server.files.media import INLINE
from hypersend_server.files.present import etag_of
from hypersend_server.files.ranges import Selection
from hypersend_server.files.storing import require_store
from hypersend_server.metadata.files import FileRecord, Files
from hypersend_storage.base import LocalPath, Presigned, Store
from hypersend_storage.errors import ObjectMissing, StorageError

READ_URL_S = 900  # from the start of a request; who goes on later asks here again
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
        store = require_store(self._stores, file.backend)
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
            raise HyperSendError("storage_unavailable", "The bytes of this file cannot be found.", retryable=False)
        return now

    def direct_url(self, file: FileRecord, *, inline: bool) -> str | None:
        """Where the store itself serves the file for a while, by the right name and type; None where it does not."""
        store = require_store(self._stores, file.backend)
        if not isinstance(store, Presigned) or not store.is_direct:
            return None
        shown = shown_type(file, inline=inline)
        return store.sign_read(
            file.location, disposition=content_disposition(file.name, inline=shown is not None),
            mime=shown or file.mime, expires_s=READ_URL_S).url

    async def read(self, file: FileRecord, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Bytes through the server, from a store without paths.

        Raises: ObjectMissing before the first part; `storage_unavailable`.
        """
        parts = require_store(self._stores, file.backend).read(file.location, start, length)
        try:
            async for part in parts:
                yield part
        except ObjectMissing:
            raise
        except StorageError as error:  # some stores refuse reading, too, where a quota is used up
            raise HyperSendError("storage_unavailable") from error
        finally:
            if isinstance(parts, AsyncGenerator):  # who leaves early must not keep the store sending
                await parts.aclose()


def shown_type(file: FileRecord, *, inline: bool) -> str | None:
    """As what a browser may show the file itself; None: as an attachment."""
    return file.sniffed_mime if inline and file.sniffed_mime in INLINE else None


def headers_of(file: FileRecord, selection: Selection, *, inline: bool) -> dict[str, str]:
    """The headers of an answer that carries (or, for HEAD and 304, stands for) these bytes of the file."""
    etag = etag_of(file)
    assert etag is not None, "a complete file has a checksum"
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if selection.status == 304:
        return headers
    shown = shown_type(file, inline=inline)
    headers["Content-Type"] = shown or file.mime
    headers["Content-Disposition"] = content_disposition(file.name, inline=shown is not None)
    headers["Content-Security-Policy"] = SANDBOX
    headers["X-Content-Type-Options"] = "nosniff"
    content_range = selection.content_range(file.size)
    if content_range is not None:
        headers["Content-Range"] = content_range
    return headers
