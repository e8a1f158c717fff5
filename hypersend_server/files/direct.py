"""Parts that clients send to the object store themselves.

The server only signs: each URL is good for exactly the bytes of one chunk with the SHA-256 that was named, and ends.
Nobody reports back; what has arrived is what the store lists, and completing makes the receipts equal to that list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypersend_server.clock import Clock, rfc3339
from hypersend_server.errors import HyperSendError
from hypersend_server.files.storing import ref_of, require_store, translated
from hypersend_server.files.types import WantedPart
from hypersend_server.metadata.files import ChunkRecord, FileRecord, Files, Progress, runs
from hypersend_server.resources import Direct, DirectPart
from hypersend_storage.base import Presigned, Store

PART_URL_S = 3600


class DirectParts:
    def __init__(self, files: Files, stores: Mapping[str, Store], clock: Clock) -> None:
        self._files = files
        self._stores = stores
        self._clock = clock

    def offer(self, file: FileRecord) -> Direct | None:
        """What an upload says of itself: no parts yet, or None where all bytes go through the server."""
        return None if self._store(file) is None else self._direct([])

    def _store(self, file: FileRecord) -> Presigned | None:
        """The store that takes this upload's parts from clients, or None."""
        store = self._stores.get(file.backend)
        if file.size == 0 or store is None or not isinstance(store, Presigned) or not store.is_direct:
            return None
        return store if not file.location or store.tells_checksums(ref_of(file)) else None

    def sign(self, file: FileRecord, parts: Sequence[WantedPart]) -> Direct:
        """Raises: `chunk_index_invalid`, `direct_unavailable`, `storage_unavailable`."""
        require_store(self._stores, file.backend)
        store = self._store(file)
        if store is None:
            raise HyperSendError("direct_unavailable")
        for part in parts:
            if not 0 <= part.index < file.chunk_count:
                raise HyperSendError("chunk_index_invalid", f"Chunk {part.index} is none of this file.")
        ref = ref_of(file)
        signed = [(part.index, store.sign_part(ref, part.index, bytes.fromhex(part.sha256), PART_URL_S))
                  for part in parts]
        return self._direct([
            DirectPart(index=index, url=request.url, headers=dict(request.headers)) for index, request in signed])

    def _direct(self, parts: list[DirectPart]) -> Direct:
        return Direct(method="PUT", expires_at=rfc3339(self._clock() + PART_URL_S * 1000), parts=parts)

    async def progress(self, file: FileRecord, known: Progress) -> Progress:
        """Receipts and what the store itself lists, together. Raises: `upload_lost`, `storage_unavailable`."""
        store = self._listing(file)
        if store is None:
            return known
        with translated():
            listed = await store.parts(ref_of(file))
        there = {index for first, last in known.received for index in range(first, last + 1)}
        there.update(part.index for part in listed if part.sha256)
        received = sorted(there)
        whole = sum(min(file.chunk_size, file.size - index * file.chunk_size) for index in received)
        return Progress(runs(received), whole, [each for each in known.partial if each[0] not in there],
                        known.verifying)

    async def reconcile(self, file: FileRecord) -> int:
        """Make the receipts what the store lists; the bytes that no receipt had counted before.

        Raises: `upload_lost`, `storage_unavailable`.
        """
        store = self._listing(file)
        if store is None:
            return 0
        # Before the list: a receipt that is recorded while it is read must not seem to have lost its part.
        known = {chunk.index: chunk for chunk in await self._files.chunks(file.id)}
        with translated():
            listed = await store.parts(ref_of(file))
        found = {part.index: ChunkRecord(part.index, part.size, part.sha256, part.tag, None)
                 for part in listed if part.sha256}
        new = [chunk for index, chunk in found.items() if _differs(known.get(index), chunk)]
        # Without checksums the list says nothing of what was received, and then the receipts are right.
        gone = sorted(known.keys() - found.keys()) if self._store(file) is not None else []
        if new or gone:
            await self._files.reconcile(file.id, new, gone)
        return sum(chunk.size for chunk in new if chunk.index not in known)

    def _listing(self, file: FileRecord) -> Presigned | None:
        """The store that knows more of it than the receipts, or None. Raises: `storage_unavailable`."""
        store = require_store(self._stores, file.backend)
        return store if file.size and file.location and isinstance(store, Presigned) else None


def _differs(receipt: ChunkRecord | None, chunk: ChunkRecord) -> bool:
    return receipt is None or (receipt.sha256, receipt.tag) != (chunk.sha256, chunk.tag)
