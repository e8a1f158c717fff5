"""The rules of files, free of HTTP: beginning an upload, reading and removing files.

How bytes arrive is in `uploads`; how they leave is in `downloads`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files.direct import DirectParts
from hypersend_server.files.media import media_type
from hypersend_server.files.names import clean_name
from hypersend_server.files.present import FilePresenter
from hypersend_server.files.storing import require_store, translated
from hypersend_server.files.types import MAX_PREVIEW_BYTES, InitBody, PartsBody, Position, Uploader
from hypersend_server.files.uploads import Uploads
from hypersend_server.limits import Buckets, NoLimits
from hypersend_server.metadata.files import FileRecord, Files, FileState, Preview
from hypersend_server.resources import Direct, File, Items
from hypersend_server.signer import b64, unb64
from hypersend_storage.base import LocalPath, Presigned, Store, chunk_size_for

MAX_PREVIEW_SIDE = 320
OPERATOR = "operator"  # owns what the operator's commands store, without a quota
HEADROOM_BYTES = 8 * 1024 * 1024  # stays free on the disk that the database is on
LISTED: tuple[FileState, ...] = ("uploading", "completing", "complete")

Reencode = Callable[[bytes, int, int], Awaitable[tuple[str, bytes]]]
"""(picture, largest side, most bytes) → (media type, bytes). Raises: `picture_invalid`, `busy`."""


class Begun(NamedTuple):
    file: File
    is_new: bool


class FileService:
    """backend: the name of the store that takes new files, a key of `stores`. on_full: called when one had no room.
    chunk_size_for: how a file of so many bytes is cut. require_room: raises `storage_full` while nothing new can be
    kept."""

    def __init__(
        self, files: Files, stores: Mapping[str, Store], uploads: Uploads, direct: DirectParts,
        present: FilePresenter, *,
        backend: str, max_file_size: int, default_quota_bytes: int | None, upload_ttl_s: int,
        is_member: Callable[[str, str], Awaitable[bool]], file_removed: Callable[[str], Awaitable[object]],
        reencode: Reencode, init_limit: Buckets | NoLimits, clock: Clock, new_id: Callable[[], str],
        on_full: Callable[[], None] = lambda: None, chunk_size_for: Callable[[int], int] = chunk_size_for,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._stores = stores
        self._uploads = uploads
        self._direct = direct
        self._present = present
        self._backend = backend
        self._max_file_size = max_file_size
        self._default_quota_bytes = default_quota_bytes
        self._upload_ttl_s = upload_ttl_s
        self._is_member = is_member
        self._file_removed = file_removed
        self._reencode = reencode
        self._init_limit = init_limit
        self._clock = clock
        self._new_id = new_id
        self._on_full = on_full
        self._chunk_size_for = chunk_size_for
        self._require_room = require_room

    async def init(self, uploader: Uploader, body: InitBody, idempotency_key: str | None) -> Begun:
        """Reserve the room and begin the upload.

        Raises: `file_too_large`, `quota_exceeded`, `storage_full`, `idempotency_conflict`, `picture_invalid`,
            `not_found` (the chat), `not_allowed` (not the ticket's chat), `rate_limited`, `storage_unavailable`.
        """
        if (wait_s := self._init_limit.take(uploader.user_id)) is not None:
            raise HyperSendError("rate_limited", retry_after_s=wait_s)
        self._require_room()
        if body.size > self._max_file_size:
            raise HyperSendError("file_too_large", f"A file may have at most {self._max_file_size} bytes.",
                                 extra={"max_file_size": self._max_file_size})
        chat_id = await self._chat_of(uploader, body.chat_id)
        preview = None if body.preview is None else await self._preview(body.preview)
        name = clean_name(body.name)
        now = self._clock()
        record = FileRecord(
            id=self._new_id(), owner_id=uploader.user_id, chat_id=chat_id, name=name, size=body.size,
            mime=media_type(body.mime, name), state="uploading", chunk_size=self._chunk_size_for(body.size),
            sha256=None if body.sha256 is None else bytes.fromhex(body.sha256),
            sha256_state="none" if body.sha256 is None else "claimed", width=body.width, height=body.height,
            duration_s=body.duration_s, preview_id=None if preview is None else preview.id, backend=self._backend,
            ticket_id=uploader.ticket_id, created_at=now, expires_at=now + self._upload_ttl_s * 1000)
        with translated():
            free_bytes = await require_store(self._stores, self._backend).free_bytes()
        try:
            begun = await self._files.begin(
                record, idempotency_key=idempotency_key,
                request_hash=hashlib.sha256(msgspec.json.encode(body)).digest(), preview=preview,
                default_quota_bytes=None if record.owner_id == OPERATOR else self._default_quota_bytes,
                free_bytes=None if free_bytes is None else free_bytes - HEADROOM_BYTES)
        except HyperSendError as error:
            if error.code == "storage_full":
                self._on_full()
            raise
        if begun.file.state == "deleted":
            raise HyperSendError("not_found")
        file = begun.file
        if file.state == "uploading":
            try:
                file = await self._uploads.open(file)
            except HyperSendError:
                if begun.is_new:  # nothing was promised yet, so nothing stays: neither reserved, nor begun at the store
                    await self._uploads.withdraw(file)
                raise
        return Begun(await self._shown(file, ask_store=not begun.is_new), begun.is_new)

    async def begin_for(self, user_id: str, chat_id: str | None, name: str, size: int, mime: str, key: str) -> str:
        """Begin an upload on the server's own account; the same one again for the same key. Returns: its id.

        Raises: as `init`.
        """
        body = InitBody(name=name, size=size, mime=mime, chat_id=chat_id)
        return (await self.init(Uploader(user_id), body, key)).file.id

    async def _chat_of(self, uploader: Uploader, chat_id: str | None) -> str | None:
        if uploader.ticket_chat_id is not None:
            if chat_id not in (None, uploader.ticket_chat_id):
                raise HyperSendError("not_allowed", "This ticket is for another chat.")
            chat_id = uploader.ticket_chat_id
        if chat_id is not None and not await self._is_member(chat_id, uploader.user_id):
            raise HyperSendError("not_found", "There is no such chat, or you may not see it.")
        return chat_id

    async def _preview(self, text: str) -> Preview:
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise HyperSendError("picture_invalid", "The preview is not base64.") from None
        if len(data) > MAX_PREVIEW_BYTES:
            raise HyperSendError("picture_invalid", f"A preview may have {MAX_PREVIEW_BYTES} bytes.")
        mime, small = await self._reencode(data, MAX_PREVIEW_SIDE, MAX_PREVIEW_BYTES)
        return Preview(self._new_id(), mime, small)

    async def get(self, viewer: Uploader, file_id: str, *, digests: bool = False) -> File:
        """Raises: `not_found`."""
        if viewer.ticket_id is not None:
            file = await self._uploads.require_owned(viewer, file_id)
            if file.state not in ("uploading", "completing"):
                raise HyperSendError("not_found")
        else:
            file = await self.require_readable(viewer.user_id, file_id)
        shown = await self._shown(file)
        if digests:
            self._present.with_digests(shown, await self._files.chunks(file.id))
        return shown

    async def require_readable(self, user_id: str, file_id: str) -> FileRecord:
        """Raises: `not_found` where this person may not know of it."""
        file = await self._files.get_readable(file_id, user_id)
        if file is None:
            raise HyperSendError("not_found")
        return file

    async def _shown(self, file: FileRecord, *, ask_store: bool = True) -> File:
        """ask_store: whether parts that clients sent to the store themselves are counted too."""
        if file.state not in ("uploading", "completing"):
            return self._present(file)
        progress = await self._files.progress(file.id, self._uploads.prefix_id(file.backend))
        if file.state == "completing":
            return self._present.upload(file, progress, None)
        if ask_store:
            try:
                progress = await self._direct.progress(file, progress)
            except HyperSendError as error:
                now = await self._files.get(file.id) if error.code == "upload_lost" else None
                if now is None or now.state in ("uploading", "deleted"):
                    raise
                return await self._shown(now)  # it was completed meanwhile
        return self._present.upload(file, progress, self._direct.offer(file))

    async def sign_parts(self, uploader: Uploader, file_id: str, body: PartsBody) -> Direct:
        """URLs to which these chunks may be sent; the upload's time begins anew.

        Raises: `not_found`, `upload_closed`, `upload_expired`, `chunk_index_invalid`, `direct_unavailable`,
            `storage_unavailable`.
        """
        file = await self._uploads.require_owned(uploader, file_id)
        now = self._clock()
        if file.state in ("completing", "complete"):
            raise HyperSendError("upload_closed")
        if file.state == "uploading":
            if (file.expires_at or 0) <= now:
                raise HyperSendError("upload_expired")
            file = await self._uploads.open(file)
        direct = self._direct.sign(file, body.parts)
        await self._files.extend_upload(file_id, now + self._upload_ttl_s * 1000)
        return direct

    async def complete(self, uploader: Uploader, file_id: str) -> Begun:
        """is_new: False where it was complete already. Raises: as `Uploads.complete`."""
        file, is_new = await self._uploads.complete(uploader, file_id)
        return Begun(self._present(file), is_new)

    async def remove(self, uploader: Uploader, file_id: str) -> None:
        """Abort an upload, or remove a file: its owner's right. Raises: `not_found`, `not_allowed`."""
        file = await self._files.get(file_id)
        if file is None or file.owner_id != uploader.user_id or file.state == "deleted":
            if uploader.ticket_id is None and await self._files.get_readable(file_id, uploader.user_id) is not None:
                raise HyperSendError("not_allowed", "Only its owner may remove a file.")
            raise HyperSendError("not_found")
        if uploader.ticket_id is not None:
            file = await self._uploads.require_owned(uploader, file_id)
            if file.state == "complete":
                raise HyperSendError("not_found")
        if not await self.discard(file):
            raise HyperSendError("not_found")

    async def discard(self, file: FileRecord) -> bool:
        """Remove a file or an upload whoever asks for it; False where it was gone already."""
        before = await self._uploads.remove(file)
        if before is not None and before.state == "complete":
            await self._file_removed(before.id)
        return before is not None

    async def list_own(
        self, user_id: str, state: FileState | None, query: str, cursor: str | None, limit: int
    ) -> Items[File]:
        """Newest first. Raises: `cursor_invalid`."""
        states: Collection[FileState] = LISTED if state is None else (state,)
        found = await self._files.list_own(user_id, states, query, _position(cursor), limit)
        # A list counts receipts alone: asking the store for each of 200 uploads would take seconds.
        return Items(items=[await self._shown(file, ask_store=False) for file in found.files],
                     next_cursor=_cursor(found.position))

    async def list_chat(
        self, user_id: str, chat_id: str, query: str, cursor: str | None, limit: int
    ) -> Items[File]:
        """What visible messages of the chat show, newest message first. Raises: `not_found`, `cursor_invalid`."""
        found = await self._files.list_chat(chat_id, user_id, query, _position(cursor), limit)
        return Items(items=[self._present(file) for file in found.files], next_cursor=_cursor(found.position))

    async def require_member(self, chat_id: str, user_id: str) -> None:
        """Raises: `not_found`."""
        if not await self._is_member(chat_id, user_id):
            raise HyperSendError("not_found", "There is no such chat, or you may not see it.")

    async def storage_use(self, user_id: str) -> tuple[int, int, int]:
        """(bytes of complete files, bytes reserved by uploads, complete files)."""
        return await self._files.usage(user_id)

    async def forget_files(self, user_id: str) -> dict[str, int]:
        """Remove all that this person owns; how many files and uploads went, and the bytes of the files."""
        files = uploads = size = 0
        while batch := await self._files.owned(user_id, 100):
            for file in batch:
                if not await self.discard(file):
                    continue
                if file.state == "complete":
                    files += 1
                    size += file.size
                else:
                    uploads += 1
        return {"files": files, "uploads": uploads, "file_bytes": size}

    def features(self) -> list[str]:
        """What this deployment can do with files, for clients that ask before they use it."""
        found = ["resumable_uploads", "upload_tickets", "download_tickets"]
        store = self._stores.get(self._backend)
        if store is None:
            return found
        if isinstance(store, LocalPath):
            found.append("whole_file_sha256")
        if isinstance(store, Presigned) and store.is_direct:
            found.append("direct_transfer")
        return found


def _position(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        found = msgspec.json.decode(unb64(cursor), type=Position)
    except (ValueError, msgspec.MsgspecError):
        raise HyperSendError("cursor_invalid") from None
    if not 0 <= found.number < 2**63 or not found.id.isascii():
        raise HyperSendError("cursor_invalid")
    return found.number, found.id


def _cursor(position: tuple[int, str] | None) -> str | None:
    return None if position is None else b64(msgspec.json.encode(Position(*position)))
