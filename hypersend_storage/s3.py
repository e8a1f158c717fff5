"""Bytes in S3-compatible object storage.

    files/ID/RANDOM                  the key of a file's object; RANDOM are 128 bits that nobody can guess

and a location, as the caller's records keep it, is that key, while the upload is in flight followed by '?':

    files/ID/RANDOM?                 reserved: nothing is there, or an upload that was begun and not yet recorded
    files/ID/RANDOM?cUPLOADID        a multipart upload whose parts carry SHA-256 checksums
    files/ID/RANDOM?mUPLOADID        one at a store that keeps none (Content-MD5 is sent, ETags are compared)
    files/ID/RANDOM?e                an empty file: a plain put when it completes

Chunk N is part N+1. A location says all that another process needs to take the next chunk. It is recorded before the
multipart upload exists (`NamedFirst`), so that whatever a crash leaves behind is found under its exact key.

Object stores have no locks. Within this instance a chunk has one writer; beyond it, two processes may send the same
part, and the last one to arrive stays. Mostly both send the same bytes. Where they do not, the first receipt wins in
metadata, and `complete` compares size and checksum of every part that the store lists with the receipts: a part with
other bytes is `ChunksLost`. Between that list and the end the parts are named by ETag and checksum, so the store
refuses one that was replaced meanwhile. At last the finished object's size and composite checksum are compared; an
object that is not what was received is removed and never served.

Rights that the key needs on the bucket: s3:PutObject, s3:GetObject, s3:DeleteObject, s3:AbortMultipartUpload,
s3:ListMultipartUploadParts; s3:ListBucket and s3:ListBucketMultipartUploads.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256 as new_sha256

from hypersend_storage.base import (
    MIB,
    ChunkReceipt,
    Layout,
    NamedFirst,
    Piece,
    Presigned,
    Receipt,
    SignedRequest,
    Store,
    StoredItem,
    UploadRef,
)
from hypersend_storage.errors import (
    ChunkBusy,
    ChunksLost,
    ObjectMissing,
    SizeMismatch,
    StorageUnavailable,
    UploadLost,
)
from hypersend_storage.pool import Pool
from hypersend_storage.s3_api import Head, Listed, Part, S3Api
from hypersend_storage.s3_buffers import Buffers
from hypersend_storage.s3_cors import allow, preflight
from hypersend_storage.s3_errors import PartsDiffer
from hypersend_storage.s3_probe import Probed, probe
from hypersend_storage.s3_reader import S3Reader
from hypersend_storage.s3_signer import Signer
from hypersend_storage.s3_slot import S3Slot, Target

CHECKED, UNCHECKED, EMPTY = "c", "m", "e"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"files/([A-Za-z0-9_-]{1,64})/[A-Za-z0-9_-]{1,64}")
log = logging.getLogger(__name__)

REPEAT_BATCH_BYTES = 64 * 1024


class S3Store(Store, NamedFirst, Presigned):
    """One bucket; any number of processes may share it.

    endpoint, public_endpoint: absolute URLs, as this server and as clients reach the store; '' for the same one.
    direct: whether clients may be sent to the store. buffer_bytes: of all chunks on their way, at least twice
    largest_chunk. lost_pauses_s: between looks for an object whose upload is gone, before it counts as lost.
    clock: Unix seconds. entropy: answers n random bytes.
    Raises: ValueError with a sentence that names the setting.
    """

    name = "s3"
    locks_out_processes = False
    lists_uploads = False

    def __init__(
        self, *, endpoint: str, bucket: str, access_key: str, secret_key: str, region: str = "us-east-1",
        public_endpoint: str = "", direct: bool = True, buffer_bytes: int = 64 * MIB, largest_chunk: int = 8 * MIB,
        threads: int = 16, lost_pauses_s: Sequence[float] = (0.1, 0.2, 0.5, 1, 2, 0),
        clock: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if buffer_bytes < 2 * largest_chunk:
            raise ValueError(
                f"S3_BUFFER_BYTES must be at least {2 * largest_chunk}, twice the largest chunk that MAX_FILE_SIZE "
                "allows")
        self._api = S3Api(
            endpoint=endpoint, bucket=bucket, access_key=access_key, secret_key=secret_key, region=region,
            connections=2 * threads, clock=clock)
        self._signer = Signer(access_key, secret_key, region)
        self.endpoint = endpoint
        self.public_endpoint = public_endpoint or endpoint
        self._api.url("files", self.public_endpoint)  # a public endpoint that is none is refused here
        self._direct = direct
        self._lost_pauses_s = lost_pauses_s
        self._clock = clock
        self._entropy = entropy
        self._buffers = Buffers(buffer_bytes)
        self._bodies = Pool(4, "s3-body")
        self._sending = Pool(threads, "s3-send")
        self._reading = Pool(threads, "s3-read")
        self._calls = Pool(8, "s3-call")
        self._probed: Probed | None = None
        self._held: Counter[str] = Counter()
        self._slots: set[tuple[str, int]] = set()
        self._ending: set[str] = set()

    @property
    def pools(self) -> Sequence[Pool]:
        return (self._bodies, self._sending, self._reading, self._calls)

    async def open(self) -> None:
        """Look whether the bucket is there and what the store can do. May be called again after it failed."""
        self._probed = await self._calls.run(
            probe, self._api, self._signer, f"probe/{self._entropy(16).hex()}", self._clock)
        if self._direct and self._probed.direct_problem:
            log.warning("no direct transfer: %s", self._probed.direct_problem)

    async def close(self) -> None:
        for pool in (self._bodies, self._sending, self._reading, self._calls):
            await pool.close()
        self._api.close()

    # Uploads

    def reserve(self, file_id: str) -> str:
        if not _ID.fullmatch(file_id):
            raise ValueError(f"{file_id!r} cannot name an object")
        return f"files/{file_id}/{self._entropy(16).hex()}?"

    def has_begun(self, location: str) -> bool:
        return bool(_split(location)[1])

    async def begin(self, upload: UploadRef) -> str:
        key, kind, _ = _split(upload.location)
        if kind:
            return upload.location
        if not upload.layout.size:
            return f"{key}?{EMPTY}"
        kind = CHECKED if (await self._know()).keeps_checksums else UNCHECKED
        # One that was begun and not recorded is taken over: a process ended in between, or another was faster.
        begun = await self._calls.run(self._begun, key)
        return f"{key}?{kind}{begun[0] if begun else await self._calls.run(self._create, key, kind)}"

    async def create(self, file_id: str, layout: Layout) -> str:
        key, _, _ = _split(self.reserve(file_id))
        if not layout.size:
            return f"{key}?{EMPTY}"
        kind = CHECKED if (await self._know()).keeps_checksums else UNCHECKED
        return f"{key}?{kind}{await self._calls.run(self._create, key, kind)}"

    @asynccontextmanager
    async def chunk(self, upload: UploadRef, index: int) -> AsyncIterator[S3Slot]:
        target = _target(upload.location)
        if (target.key, index) in self._slots or target.key in self._ending:
            raise ChunkBusy("another request is writing here")
        slot = S3Slot(self._api, self._buffers, self._bodies, self._sending, target, upload, index)
        self._slots.add((target.key, index))
        self._held[target.key] += 1
        try:
            yield slot
        finally:
            slot.leave()
            self._slots.discard((target.key, index))
            self._held[target.key] -= 1
            if not self._held[target.key]:
                del self._held[target.key]

    async def read_received(self, upload: UploadRef, body: AsyncIterator[Piece], *, expected: int) -> bytes:
        digest = new_sha256()

        def consume(parts: list[Piece]) -> None:
            for part in parts:
                digest.update(part)

        # In batches so small that it waits for no room: whoever sends a chunk again may be slow as well.
        received = await self._bodies.feed(body, consume, expected=expected, batch_bytes=REPEAT_BATCH_BYTES)
        if received != expected:
            raise SizeMismatch(expected, received)
        return digest.digest()

    async def sync(self, upload: UploadRef) -> None:
        """Nothing to do: what the store has acknowledged, it keeps."""

    async def complete(self, upload: UploadRef, receipts: Sequence[Receipt]) -> str:
        key, kind, _ = _split(upload.location)
        with self._end(key):
            if kind == EMPTY:
                await self._calls.run(self._api.put_empty, key)
            else:
                await self._complete(_target(upload.location), upload.layout, receipts)
            self._buffers.forget(key)
        return key

    async def abort(self, upload: UploadRef) -> None:
        key, _, _ = _split(upload.location)
        with self._end(key):
            await self._calls.run(self._abort, upload.location)
            self._buffers.forget(key)

    # Complete files

    async def delete(self, location: str) -> None:
        key, _, _ = _split(location)
        if "?" in location:
            await self._calls.run(self._abort, location)
        await self._calls.run(self._api.delete, key)

    async def size(self, location: str) -> int | None:
        head = await self._calls.run(self._api.head, _complete_key(location))
        return None if head is None else head.size

    async def read(self, location: str, start: int, length: int) -> AsyncIterator[bytes]:
        key = _complete_key(location)
        if not length:
            if await self.size(location) is None:
                raise ObjectMissing("nothing is stored here")
            return
        reader = S3Reader(self._api, self._reading, key, start, length)
        try:
            while part := await reader.next():
                yield part
        finally:
            await reader.close()

    async def items(self) -> AsyncIterator[StoredItem]:
        kind = CHECKED if (await self._know()).keeps_checksums else UNCHECKED
        for listing in (self._api.objects, self._api.uploads):
            found = listing("files/")
            while batch := await self._calls.run(_take, found, 200):
                for item in batch:
                    if match := _KEY.fullmatch(item.key):
                        yield StoredItem(
                            location=f"{item.key}?{kind}{item.upload_id}" if item.upload_id else item.key,
                            file_id=match[1], uploading=bool(item.upload_id), size=item.size,
                            modified_ms=int(item.modified * 1000))

    async def free_bytes(self) -> int | None:
        return None

    # Direct transfer

    @property
    def is_direct(self) -> bool:
        return self._direct and self._probed is not None and not self._probed.direct_problem

    @property
    def direct_problem(self) -> str:
        """Why there is no direct transfer, for the operator; '' where there is."""
        if not self._direct:
            return "S3_DIRECT is off"
        return "the object store has not been reached yet" if self._probed is None else self._probed.direct_problem

    def tells_checksums(self, upload: UploadRef) -> bool:
        _, kind, _ = _split(upload.location)
        return kind != UNCHECKED

    def sign_part(self, upload: UploadRef, index: int, sha256: bytes, expires_s: int) -> SignedRequest:
        target = _target(upload.location)
        checksum = base64.b64encode(sha256).decode()
        url = self._signer.presign(
            "PUT", self._api.url(target.key, self.public_endpoint),
            {"content-length": str(upload.layout.chunk_bytes(index)), "x-amz-checksum-sha256": checksum},
            query={"partNumber": str(index + 1), "uploadId": target.upload_id},
            now=self._clock(), expires_s=expires_s)
        return SignedRequest("PUT", url, {"x-amz-checksum-sha256": checksum})

    def sign_read(self, location: str, *, disposition: str, mime: str, expires_s: int) -> SignedRequest:
        url = self._signer.presign(
            "GET", self._api.url(_complete_key(location), self.public_endpoint), {},
            query={"response-content-disposition": disposition, "response-content-type": mime},
            now=self._clock(), expires_s=expires_s)
        return SignedRequest("GET", url, {})

    async def parts(self, upload: UploadRef) -> list[ChunkReceipt]:
        _, kind, _ = _split(upload.location)
        if kind == EMPTY:
            return []
        return await self._calls.run(self._parts, _target(upload.location), upload.layout)

    # What browsers may do

    async def cors_problem(self, origin: str) -> str | None:
        """Why a page of this origin (scheme, host, port) could not send parts to the public endpoint; None: it can.

        Asks the store as a browser does. Raises: StorageUnavailable where it does not answer.
        """
        url = self._api.url("files/probe", self.public_endpoint)
        return await self._calls.run(preflight, url, origin)

    async def allow_origins(self, origins: Sequence[str]) -> None:
        """Let pages of these origins send and read; rules of the bucket that are not ours stay.

        Raises: StorageUnavailable with what the operator can do instead, where the store has no such call (MinIO:
        a setting of the server for all buckets).
        """
        await self._calls.run(allow, self._api, origins)

    async def _know(self) -> Probed:
        """What the store can do, also where it could not be reached at start."""
        if self._probed is None:
            await self.open()
        assert self._probed is not None
        return self._probed

    async def _complete(self, target: Target, layout: Layout, receipts: Sequence[Receipt]) -> None:
        try:
            await self._calls.run(self._put_together, target, layout, receipts)
            return
        except UploadLost:
            # Completed before, by a call that was cut off or by another process; or gone. Some stores forget the
            # upload, or take its parts away one by one, while another process still waits for the object.
            for pause_s in self._lost_pauses_s:
                if await self._calls.run(self._is_there, target.key, layout, receipts):
                    return
                await asyncio.sleep(pause_s)
            raise

    # What runs in threads

    def _create(self, key: str, kind: str) -> str:
        return self._api.create_multipart(key, with_checksums=kind == CHECKED)

    def _begun(self, key: str) -> list[str]:
        """Ids of the uploads in flight under exactly this key."""
        return [found.upload_id for found in self._api.uploads(key) if found.key == key]

    def _parts(self, target: Target, layout: Layout) -> list[ChunkReceipt]:
        return [
            ChunkReceipt(part.number - 1, part.size, part.sha256 or b"", part.etag)
            for part in self._api.parts(target.key, target.upload_id)
            if 1 <= part.number <= layout.chunk_count and part.size == layout.chunk_bytes(part.number - 1)
            and (part.sha256 is not None) == target.has_checksums]

    def _put_together(self, target: Target, layout: Layout, receipts: Sequence[Receipt]) -> None:
        listed = self._require_received(target, receipts)
        try:
            self._api.complete(target.key, target.upload_id, listed, with_checksums=target.has_checksums)
        except PartsDiffer:
            self._require_received(target, receipts)  # says which chunk was written meanwhile
            raise
        head = self._api.head(target.key)
        if head is None:
            raise StorageUnavailable("the object store does not show yet what it put together")
        if not _is_of(head, layout, receipts):
            self._api.delete(target.key)
            raise StorageUnavailable("the object store put together something else than was received")

    def _require_received(self, target: Target, receipts: Sequence[Receipt]) -> list[Part]:
        """The parts of these receipts as the store lists them. Raises: ChunksLost; UploadLost, also for no part at all,
        which is how an upload looks whose parts are just being taken away."""
        listed = {part.number: part for part in self._api.parts(target.key, target.upload_id)}
        if receipts and not listed:
            raise UploadLost("the store lists none of its parts")
        lost = [r.index for r in receipts if not _is_same(listed.get(r.index + 1), r, target)]
        if lost:
            raise ChunksLost(lost)
        return [listed[r.index + 1] for r in receipts]

    def _is_there(self, key: str, layout: Layout, receipts: Sequence[Receipt]) -> bool:
        head = self._api.head(key)
        return head is not None and _is_of(head, layout, receipts)

    def _abort(self, location: str) -> None:
        key, kind, upload_id = _split(location)
        if kind in (CHECKED, UNCHECKED):
            self._api.abort(key, upload_id)
        elif not kind:
            for begun in self._begun(key):
                self._api.abort(key, begun)

    @contextmanager
    def _end(self, key: str) -> Iterator[None]:
        """No chunk is written meanwhile, and nothing else ends this upload. Raises: ChunkBusy."""
        if self._held[key] or key in self._ending:
            raise ChunkBusy("a chunk of this upload is being written")
        self._ending.add(key)
        try:
            yield
        finally:
            self._ending.discard(key)


def _split(location: str) -> tuple[str, str, str]:
    """(object key, kind or '', upload id or ''). Raises: ValueError."""
    key, mark, upload = location.partition("?")
    if not _KEY.fullmatch(key) or upload[:1] not in ("", CHECKED, UNCHECKED, EMPTY):
        raise ValueError("this is no location of an object store")
    return key, upload[:1] if mark else "", upload[1:]


def _target(location: str) -> Target:
    """Raises: UploadLost for what is no multipart upload, such as one that is complete."""
    key, kind, upload_id = _split(location)
    if kind not in (CHECKED, UNCHECKED):
        raise UploadLost("this upload has not begun, or has ended")
    return Target(key, upload_id, kind == CHECKED)


def _complete_key(location: str) -> str:
    if not _KEY.fullmatch(location):
        raise ValueError("this is no location of a complete file")
    return location


def _is_same(part: Part | None, receipt: Receipt, target: Target) -> bool:
    if part is None or part.size != receipt.size:
        return False
    if target.has_checksums:
        return part.sha256 == receipt.sha256
    return bool(receipt.tag) and part.etag == receipt.tag


def _is_of(head: Head, layout: Layout, receipts: Sequence[Receipt]) -> bool:
    """Whether an object has the size, and where the store keeps one the checksum, of what was received."""
    whole, _, count = head.checksum.partition("-")
    if head.size != layout.size or not count:
        return head.size == layout.size
    expected = hashlib.sha256(b"".join([receipt.sha256 for receipt in receipts])).digest()
    return count == str(len(receipts)) and whole == base64.b64encode(expected).decode()


def _take(found: Iterator[Listed], count: int) -> list[Listed]:
    return [item for item, _ in zip(found, range(count), strict=False)]
