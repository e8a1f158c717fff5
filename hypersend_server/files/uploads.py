"""How bytes arrive, free of HTTP: chunks, aborting, expiry.

A chunk with a receipt is never written again; a repeat is read and hashed only. One writer a chunk: the newest
request of this process cuts the one before it off (`turns`), another process is kept out by the store's lock. After
the slot was taken, state and receipt are read again; the receipt is recorded while the slot is still held, and
only while the upload is open. The bytes of a request that was cut stay as a prefix without a receipt.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files.body import Body, ClientGone, Superseded, TooSlow, UploadEnded
from hypersend_server.files.completing import Completing
from hypersend_server.files.direct import DirectParts
from hypersend_server.files.durability import Durability
from hypersend_server.files.progress import ProgressEvents
from hypersend_server.files.storing import layout_of, ref_of, require_store, translated
from hypersend_server.files.turns import Joined, Turns
from hypersend_server.files.types import Uploader
from hypersend_server.metadata.files import ChunkRecord, ChunkState, FileRecord, Files
from hypersend_storage.base import ChunkReceipt, ChunkSlot, NamedFirst, Store, UploadRef
from hypersend_storage.errors import DigestMismatch

RECENT = 1000  # uploads whose unchanging part is kept in memory
log = logging.getLogger(__name__)


class Claims(NamedTuple):
    """What a sender says about a body: its length, its SHA-256, and that of the whole chunk. None: it does not."""

    length: int | None = None
    body_sha256: bytes | None = None
    chunk_sha256: bytes | None = None


class Accepted(NamedTuple):
    """received_bytes: of the file so far."""

    chunk_index: int
    size: int
    sha256: bytes
    received_bytes: int


class Uploads:
    """on_full: called when a store had no room, to make some. on_stored: called with the store's name and the
    bytes of each chunk that earned a receipt. require_room: raises `storage_full` while nothing new can be kept."""

    def __init__(
        self, files: Files, stores: Mapping[str, Store], durability: Durability, direct: DirectParts,
        events: ProgressEvents, *,
        upload_ttl_s: int, clock: Clock, on_full: Callable[[], None] = lambda: None,
        on_stored: Callable[[str, int], object] = lambda backend, size: None,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._stores = stores
        self._durability = durability
        self._events = events
        self._upload_ttl_s = upload_ttl_s
        self._clock = clock
        self._on_full = on_full
        self._on_stored = on_stored
        self._require_room = require_room
        self._turns = Turns()
        self._recent: dict[str, FileRecord] = {}
        self._opening: Joined[FileRecord] = Joined()
        self._completing = Completing(
            files, stores, durability, direct, events, expiry=self._expiry, clock=clock, on_full=on_full,
            on_stored=on_stored)
        self._writing: set[asyncio.Task[Accepted]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._process_id = secrets.token_hex(8)

    async def start(self) -> None:
        await self._durability.start()
        self._recovery = asyncio.create_task(self.recover())

    async def close(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        for task in list(self._writing):
            await asyncio.wait([task])
        await self._opening.close()
        await self._completing.close()
        await self._durability.close()
        self._events.close()

    def boot_id(self, backend: str) -> str | None:
        return self._durability.boot_id(backend)

    def prefix_id(self, backend: str) -> str:
        """Names where prefixes are that can be gone on from: a disk, in this boot, or the memory of this process."""
        return self.boot_id(backend) or self._process_id

    async def open(self, file: FileRecord) -> FileRecord:
        """Have the store begin an upload that has been recorded. Raises: `storage_full`, `storage_unavailable`."""
        if file.location and not isinstance(self._stores.get(file.backend), NamedFirst):
            return file

        async def work() -> FileRecord:
            store = require_store(self._stores, file.backend)
            with translated():
                if isinstance(store, NamedFirst):
                    return await self._begin_named(store, file)
                location = await store.create(file.id, layout_of(file))
            return await self._name(store, file, location)

        opened, _ = await self._opening.do(file.id, work)
        return opened

    async def _name(self, store: Store, file: FileRecord, location: str) -> FileRecord:
        """Record where the upload has begun; what no record names by then is nobody's."""
        async def drop_unless_named(known: FileRecord | None) -> None:
            if known is None or known.location != location:  # removed meanwhile, or another process was faster
                with translated():
                    await store.abort(UploadRef(file.id, location, layout_of(file)))

        try:
            known = await self._files.set_location(file.id, location)
        except HyperSendError:
            with suppress(HyperSendError):
                await drop_unless_named(await self._files.get(file.id))  # it may have been recorded all the same
            raise
        await drop_unless_named(known)
        return _require_record(known)

    async def _begin_named(self, store: NamedFirst, file: FileRecord) -> FileRecord:
        """Record where it will be, and then begin there, so that nothing can be left behind unknown."""
        if not file.location:
            file = _require_record(await self._files.set_location(file.id, store.reserve(file.id)))
        begun = await store.begin(ref_of(file))
        if begun == file.location:
            return file
        known = _require_record(await self._files.set_location(file.id, begun, file.location))
        if known.location != begun:
            await require_store(self._stores, file.backend).abort(
                UploadRef(file.id, begun, layout_of(file)))
        return known

    async def require_owned(self, uploader: Uploader, file_id: str) -> FileRecord:
        """The upload or file, where this caller may add to it. Raises: `not_found`."""
        file = await self._files.get(file_id)
        _require_uploader(uploader, file)
        assert file is not None
        return file

    async def put_chunk(
        self, uploader: Uploader, file_id: str, index: int, body: Body, claims: Claims, *, offset: int = 0
    ) -> Accepted:
        """Take the bytes of chunk `index` from `offset` to its end. The body is not touched before it is wanted.

        Cancelling this call cuts the body off; what has arrived by then stays as a prefix.
        Raises: `not_found`, `upload_closed`, `upload_expired`, `upload_lost`, `chunk_index_invalid`,
            `chunk_size_mismatch`, `chunk_offset` (with `have`), `chunk_conflict`, `chunk_busy`, `digest_mismatch`,
            `verifying`, `request_timeout`, `storage_full`, `storage_unavailable`; what the body raises.
        """
        file = await self._known(uploader, file_id, index)
        whole = layout_of(file).chunk_bytes(index)
        if offset > whole:
            raise HyperSendError("chunk_offset", extra={"have": self._have(await self._open_chunk(
                uploader, file_id, index))})
        if claims.length is not None and claims.length != whole - offset:
            raise HyperSendError(
                "chunk_size_mismatch", f"The body must have {whole - offset} bytes, not {claims.length}.",
                extra={"expected": whole - offset, "received": claims.length}, headers={"Connection": "close"})
        task = asyncio.create_task(self._take_chunk(uploader, file, index, body, claims, offset))
        self._writing.add(task)
        task.add_done_callback(self._written)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            body.cut(ClientGone())
            raise

    def _written(self, task: asyncio.Task[Accepted]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it, or has gone

    async def _known(self, uploader: Uploader, file_id: str, index: int) -> FileRecord:
        """What of an upload never changes (owner, layout, location), without asking the database for each chunk.

        Its state is read once the slot is held, which is before the body is.
        """
        file = self._recent.get(file_id)
        if file is None or uploader.ticket_id not in (None, file.ticket_id):  # another ticket may have taken it over
            file = await self.open((await self._open_chunk(uploader, file_id, index)).file)
            while len(self._recent) >= RECENT:
                self._recent.pop(next(iter(self._recent)))
            self._recent[file_id] = file
        _require_uploader(uploader, file)
        _require_index(file, index)
        return file

    async def _open_chunk(self, uploader: Uploader, file_id: str, index: int) -> ChunkState:
        state = await self._files.get_chunk(file_id, index if 0 <= index < 2**31 else -1)
        _require_uploader(uploader, None if state is None else state.file)
        assert state is not None
        file = state.file
        if file.state == "expired" or (file.state == "uploading" and (file.expires_at or 0) <= self._clock()):
            raise HyperSendError("upload_expired")
        if file.state != "uploading":
            raise HyperSendError("upload_closed")
        _require_index(file, index)
        return state

    async def _take_chunk(
        self, uploader: Uploader, file: FileRecord, index: int, body: Body, claims: Claims, offset: int
    ) -> Accepted:
        try:
            async with self._turns.take(file.id, index, body):
                return await self._with_slot(uploader, file, index, body, claims, offset)
        except Superseded:
            raise HyperSendError("chunk_busy", "A newer request for this chunk took over.") from None
        except TooSlow:
            raise HyperSendError("request_timeout", headers={"Connection": "close"}) from None
        except UploadEnded:
            raise HyperSendError("upload_closed", "The upload ended meanwhile.") from None
        except ClientGone:
            raise ConnectionResetError("the client went away") from None
        except HyperSendError as error:
            if error.code == "storage_full":
                self._on_full()
            raise
        finally:
            body.close()

    async def _with_slot(
        self, uploader: Uploader, file: FileRecord, index: int, body: Body, claims: Claims, offset: int
    ) -> Accepted:
        store = require_store(self._stores, file.backend)
        try:
            with translated():
                async with store.chunk(ref_of(file), index) as slot:
                    generation = self._durability.generation(file.id)
                    state = await self._open_chunk(uploader, file.id, index)
                    receipt = state.receipt
                    if receipt is None:
                        return await self._write(slot, state, index, body, claims, offset, generation)
        except HyperSendError as error:
            if error.code == "upload_lost":
                self._recent.pop(file.id, None)
                await self._open_chunk(uploader, file.id, index)  # raises where the upload has simply ended
            raise
        return await self._repeat(state, receipt, body, claims, offset)

    def _have(self, state: ChunkState) -> int:
        """Bytes of the chunk that are there: all of one with a receipt, else the prefix that can be gone on from."""
        if state.receipt is not None:
            return state.receipt.size
        return state.partial_bytes if state.partial_boot_id == self.prefix_id(state.file.backend) else 0

    async def _write(
        self, slot: ChunkSlot, state: ChunkState, index: int, body: Body, claims: Claims, offset: int,
        generation: int,
    ) -> Accepted:
        self._require_room()
        file = state.file
        has_prefix = state.partial_bytes > 0
        if offset > self._have(state):
            raise HyperSendError("chunk_offset", extra={"have": self._have(state)})
        if has_prefix and (offset < state.partial_bytes or self._have(state) == 0):
            # From here on the store no longer holds that prefix.
            await self._set_partial(file, index, 0)
            has_prefix = False
        try:
            if offset <= slot.in_place:
                await body.until(slot.wait_for_room)
            receipt = await slot.write(
                body, offset=offset, sha256=claims.chunk_sha256, body_sha256=claims.body_sha256)
        except BaseException as error:
            # Bytes with a wrong digest are worth nothing, or the client would go on from them for ever.
            is_kept = not isinstance(error, DigestMismatch) and self._durability.generation(file.id) == generation
            size = slot.in_place if is_kept else 0
            if size or has_prefix:
                await self._keep_prefix(file, index, size)
            raise
        return await self._record(file, receipt, generation)

    async def _record(self, file: FileRecord, receipt: ChunkReceipt, generation: int) -> Accepted:
        if self._durability.generation(file.id) != generation:
            raise HyperSendError("storage_unavailable", "The disk lost what was written; send the chunk again.")
        boot_id = self.boot_id(file.backend)
        chunk = ChunkRecord(receipt.index, receipt.size, receipt.sha256, receipt.tag, boot_id)
        received_bytes = await self._files.add_receipt(file.id, chunk, self._expiry())
        if boot_id is not None:
            self._durability.written(file, receipt.index)
        self._events.received(file, received_bytes)
        self._on_stored(file.backend, receipt.size)
        return Accepted(receipt.index, receipt.size, receipt.sha256, received_bytes)

    async def _keep_prefix(self, file: FileRecord, index: int, size: int) -> None:
        try:
            await self._set_partial(file, index, size)
        except HyperSendError as error:  # the reason for the cut matters more
            log.warning("the prefix of chunk %d of upload %s is not recorded: %s", index, file.id, error)

    async def _set_partial(self, file: FileRecord, index: int, size: int) -> None:
        await self._files.set_partial(file.id, index, size, self.prefix_id(file.backend), self._expiry())

    def _expiry(self) -> int:
        return self._clock() + self._upload_ttl_s * 1000

    async def _repeat(
        self, state: ChunkState, receipt: ChunkRecord, body: Body, claims: Claims, offset: int
    ) -> Accepted:
        """A chunk that is there already: its bytes are hashed and go nowhere."""
        file = state.file
        if receipt.boot_id is not None and receipt.boot_id != self.boot_id(file.backend):
            raise HyperSendError("verifying", retry_after_s=1)
        with translated():
            actual = await require_store(self._stores, file.backend).read_received(
                ref_of(file), body, expected=receipt.size - offset)
        if claims.body_sha256 is not None and claims.body_sha256 != actual:
            raise HyperSendError("digest_mismatch", extra={"sha256": actual.hex()})
        # Of a chunk's end alone only the sender's word about the whole can be compared.
        stated = actual if offset == 0 else claims.chunk_sha256
        if stated is not None and stated != receipt.sha256:
            raise HyperSendError("chunk_conflict")
        if offset == 0 and claims.chunk_sha256 not in (None, actual):
            raise HyperSendError("digest_mismatch", extra={"sha256": actual.hex()})
        return Accepted(receipt.index, receipt.size, receipt.sha256, file.received_bytes)

    async def complete(self, uploader: Uploader, file_id: str) -> tuple[FileRecord, bool]:
        """(the file, whether this call completed it). Time does not depend on the file's size.

        Raises: `not_found`, `chunks_missing` (with `missing`), `verifying`, `upload_expired`, `upload_lost`,
            `chunk_busy`, `storage_full`, `storage_unavailable`.
        """
        file = await self.require_owned(uploader, file_id)
        if file.state == "complete":
            return file, False
        if file.state == "uploading":
            file = await self.open(file)
        done, began = await self._completing.do(file_id)
        return done.file, began and done.is_new

    async def recover(self) -> None:
        """Carry on with what was being completed when a process ended."""
        await self._completing.recover()

    async def withdraw(self, file: FileRecord) -> None:
        """Remove an upload that the store did not begin, unless the same request was answered by another process
        meanwhile, which had more luck with the store."""
        now = await self._files.get(file.id)
        if now is None:
            return
        store = require_store(self._stores, file.backend)
        if isinstance(store, NamedFirst) and now.location and store.has_begun(now.location):
            return
        before = await self._files.remove(file.id, self._clock(), location=now.location)
        if before is not None:
            await self._removed(before)

    async def remove(self, file: FileRecord) -> FileRecord | None:
        """Remove a file or abort an upload, giving its space back at once; the record as it was, or None."""
        if file.state == "completing":
            try:
                await self._completing.do(file.id)
            except HyperSendError as error:
                log.warning("removing file %s, which cannot be completed: %s", file.id, error)
        self._completing.forget(file.id)
        before = await self._files.remove(file.id, self._clock())
        if before is not None and before.state != "complete":
            await self._removed(before)
        return before

    async def _removed(self, before: FileRecord) -> None:
        self._events.state(before, "deleted")
        await self.clear(before)

    async def expire(self, limit: int = 100) -> int:
        """End uploads whose time is over; how many."""
        ended = await self._files.expire(self._clock(), limit)
        for file in ended:  # all are told before anything that may fail
            self._events.state(file, "expired")
        for file in ended:
            await self.clear(file)
        return len(ended)

    async def clear(self, file: FileRecord) -> bool:
        """Remove the bytes of an upload that has ended; False where that must be tried again later."""
        await self._turns.cut_all(file.id, UploadEnded())
        store = self._stores.get(file.backend)
        if file.location:
            if store is None:
                return False
            try:
                with translated():
                    await store.abort(ref_of(file))
            except HyperSendError as error:
                log.warning("the bytes of upload %s stay for now: %s", file.id, error)
                return False
        await self._files.forget_upload(file.id)
        return True


def _require_record(file: FileRecord | None) -> FileRecord:
    if file is None or file.state == "deleted":
        raise HyperSendError("not_found")
    return file


def _require_uploader(uploader: Uploader, file: FileRecord | None) -> None:
    """Its owner, and with an upload ticket only what that ticket began. Raises: `not_found`."""
    if file is None or file.owner_id != uploader.user_id or file.state == "deleted" or (
        uploader.ticket_id is not None and file.ticket_id != uploader.ticket_id
    ):
        raise HyperSendError("not_found")


def _require_index(file: FileRecord, index: int) -> None:
    if not 0 <= index < file.chunk_count:
        raise HyperSendError("chunk_index_invalid", f"The file has chunks 0 to {file.chunk_count - 1}."
                             if file.chunk_count else "An empty file has no chunks.")
