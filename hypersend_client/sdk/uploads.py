"""Uploading a local file: chunks in parallel, each with its digest, and never a byte twice.

The journal ties the local file to the upload; what has arrived is asked of the server, which is the only one
who knows. A chunk that was cut off goes on where the server says it stopped: the first try after a cut offers
the offset up to which bytes were handed to the network and, by `Expect: 100-continue`, waits for the server's
word before it sends anything; `chunk_offset` answers with the true one.

A chunk is read once, hashed in a thread and sent from the same window of memory; one that is larger than the
window is read twice, so that memory stays small whatever the chunk size.

Where the server offers it, chunks go straight to its object store: some are hashed ahead, the server signs a URL for
each (`direct`), and a chunk for which that failed twice goes through the server all the same.
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypersend_client.sdk.answers import plain_text
from hypersend_client.sdk.bulk import BulkConnection, ElsewhereFailed, Wire
from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError, NotHyperSend
from hypersend_client.sdk.files import Files, file_path
from hypersend_client.sdk.journal import Identity, Journal, UploadRow
from hypersend_client.sdk.models import File, Range
from hypersend_client.sdk.models import Upload as UploadState
from hypersend_client.sdk.source import WINDOW_BYTES, Source, Window
from hypersend_client.sdk.transfer import Transfer, all_of
from hypersend_client.sdk.transfer_errors import (
    CorruptTransfer,
    SourceChanged,
    UploadRemoved,
)
from hypersend_client.sdk.transport import Transport

CLAIM_BYTES = 8 * 1024 * 1024  # up to here the digest of the whole costs nothing worth mentioning
WRONG_DIGESTS = 3
BEGIN_TRIES = 5
COMPLETE_TRIES = 5
DIRECT_BATCH = 16
DIRECT_TRIES = 2
DIRECT_FAILURES = 3


@dataclass(frozen=True, slots=True)
class SignedChunk:
    """A chunk and where the object store takes it for a while."""

    index: int
    sha256: bytes
    url: str
    headers: Mapping[str, str]


class _Outdated(Exception):
    """What we thought of the upload is no longer so: ask the server and plan anew."""


class Upload(Transfer[File]):
    """row: its place in the journal. keep: leave the row there when it is done, for the message that will show it."""

    def __init__(
        self,
        row: UploadRow,
        account: tuple[str, str],
        *,
        transport: Transport,
        files: Files,
        journal: Journal,
        pool: ThreadPoolExecutor,
        bulk: ThreadPoolExecutor,
        parallel: int,
        keep: bool,
        **options: Any,
    ) -> None:
        super().__init__(name=str(row.body.get("name") or Path(row.path).name), **options)
        self.row = row
        self.account = account
        self.size_bytes = row.identity.size
        self._http = transport
        self._files = files
        self._journal = journal
        self._pool = pool
        self._bulk = bulk
        self._parallel = parallel
        self._keep = keep
        self._sending: dict[int, int] = {}
        self._begun = 0  # anew, in this run
        self._direct_failures = 0  # in a row, of chunks that then went through the server

    @property
    def path(self) -> str:
        return self.row.path

    @property
    def file_id(self) -> str | None:
        """None before the server knows of it."""
        return self.row.file_id or None

    async def _discard(self) -> None:
        await self._abort()
        await self._journal.drop_upload(self.row.id)

    async def _abort(self) -> None:
        if self.row.file_id:
            try:
                await self._http.call("DELETE", file_path(self.row.file_id), max_tries=2)
            except HyperSendError:
                pass  # it expires by itself

    async def _transfer(self) -> File:
        async with self._journal.lock(self.row.id, self.path):
            # Another program may have gone on with it while we waited for the lock.
            row = await self._journal.upload(self.row.id)
            if row is None:
                raise UploadRemoved(self.row.file_id)
            self.row = row
            if row.done and (file := await self._uploaded()) is not None:
                return file
            row = self.row
            source = Source(row.path, self._pool)
            try:
                identity = await source.open()
                if not identity.is_content_of(row.identity):
                    raise SourceChanged(row.path)
                return await self._upload(source)
            except SourceChanged:
                await self._discard()  # half of one file and half of another are worth nothing
                raise
            finally:
                await source.close()

    async def _uploaded(self) -> File | None:
        """The file that was uploaded in full before; None where it is no longer there."""
        try:
            file = await self._files.get(self.row.file_id)
        except ApiError as error:
            if error.status != 404:
                raise
            self.row = await self._journal.begin_again(self.row)
            return None
        self.done_bytes = self.size_bytes
        return file

    async def _upload(self, source: Source) -> File:
        backoff = self._make_backoff()
        self._begun = 0
        while True:
            try:
                try:
                    file = await self._begin(source)
                    if file.state != "complete":
                        file = await self._send_all(source, file)
                    await source.check()
                    return await self._finish(file)
                except ApiError as error:
                    if error.code not in ("upload_lost", "upload_expired") or self._begun >= BEGIN_TRIES:
                        raise
                    await self._abort()  # what it had reserved is given back at once
                    await self._begin_again()
            except HyperSendError as error:
                if error.code == "storage_full":
                    raise  # nobody knows when there will be room; the same upload goes on then
                await self._wait_out(error, backoff)

    async def _begin(self, source: Source) -> File:
        """The upload as the server has it, begun where there is none."""
        row = self.row
        if row.file_id:
            try:
                file = await self._files.get(row.file_id)
            except ApiError as error:
                if error.status != 404:
                    raise
                if self._begun >= BEGIN_TRIES:
                    raise UploadRemoved(row.file_id) from error
                # It ended while nobody was at it: nothing is lost but what the server threw away.
                await self._begin_again()
                row = self.row
            else:
                if file.state in ("expired", "deleted"):
                    raise ApiError("upload_expired", status=410)
                return file
        file = await self._files.init(row.body, idempotency_key=row.key)
        if file.state in ("expired", "deleted"):
            raise ApiError("upload_expired", status=410)
        await self._journal.note_upload(row.id, file.id, done=False)
        self.row = replace(row, file_id=file.id)
        return file

    async def _begin_again(self) -> None:
        self._begun += 1
        self.row = await self._journal.begin_again(self.row)
        self.done_bytes = 0
        self._fall_back()

    async def _finish(self, file: File) -> File:
        self.done_bytes = self.size_bytes
        if self._keep:
            await self._journal.note_upload(self.row.id, file.id, done=True)
        else:
            await self._journal.drop_upload(self.row.id)
        return file

    async def _send_all(self, source: Source, file: File) -> File:
        """Send what is missing, then complete it. Raises: CorruptTransfer where the server loses some each time."""
        backoff, lost = self._make_backoff(), 0
        while True:
            if file.size != self.size_bytes:
                raise NotHyperSend(self._http.url, f"the upload has {file.size} bytes and not {self.size_bytes}")
            state = file.upload
            if state is not None:
                missing, verifying = _missing(state)
                if lost >= COMPLETE_TRIES:
                    raise CorruptTransfer(missing[0] if missing else 0)
                self._sending.clear()
                self.done_bytes = min(self.size_bytes, _bytes_of(state.received, state.chunk_size, self.size_bytes))
                is_direct = state.direct is not None and self._direct_failures < DIRECT_FAILURES
                partial = {} if is_direct else {n: have for n, have in state.partial if n in set(missing)}
                self.done_bytes += sum(partial.values())
                self._moved(0)
                if verifying or lost:  # it had more, and what is found again, or sent again, is a way forward
                    self._fall_back()
                if missing:
                    self._set("running")
                    try:
                        if is_direct:
                            await self._send_direct(source, state.chunk_size, missing)
                        else:
                            await self._send(source, state.chunk_size, missing, partial)
                    except _Outdated:
                        pass
                elif verifying:
                    # The server reads again what it had not made durable before its machine went down.
                    self._set("checking")
                    await self._wait_for_server(backoff)
                    file = await self._ask()
                    continue
            await source.check()
            self._set("finishing")
            try:
                done = await self._files.complete(file.id)
            except ApiError as error:
                if error.status == 404:
                    raise UploadRemoved(file.id) from error
                if error.code not in ("chunks_missing", "verifying"):
                    raise
                lost += error.code == "chunks_missing"
                await self._wait_for_server(backoff, error)
            else:
                if done is not None:
                    return done
                await self._wait_for_server(backoff)  # an object store puts it together
            file = await self._ask()
            if file.state == "complete":
                return file

    async def _ask(self) -> File:
        try:
            file = await self._files.get(self.row.file_id)
        except ApiError as error:
            if error.status == 404:
                raise UploadRemoved(self.row.file_id) from error
            raise
        if file.state in ("expired", "deleted"):
            raise ApiError("upload_expired", status=410)
        return file

    async def _send(self, source: Source, chunk_size: int, missing: list[int], partial: dict[int, int]) -> None:
        queue = iter(missing)

        async def worker() -> None:
            line, window = BulkConnection(self._http, self._bulk), Window()
            try:
                for index in queue:
                    size = min(chunk_size, self.size_bytes - index * chunk_size)
                    await self._send_chunk(source, line, window, index, index * chunk_size, size, partial.get(index, 0))
            finally:
                await line.close()

        workers: list[Coroutine[Any, Any, None]] = [worker() for _ in range(min(self._parallel, len(missing)))]
        await all_of(workers)

    async def _send_direct(self, source: Source, chunk_size: int, missing: list[int]) -> None:
        """To the object store: chunks are hashed and signed for ahead, while those before them are on their way."""
        queue: asyncio.Queue[SignedChunk | None] = asyncio.Queue(DIRECT_BATCH)
        workers = min(self._parallel, len(missing))

        async def prepare() -> None:
            window, batch = Window(), workers
            for begin in _batches(missing, batch, DIRECT_BATCH):
                digests = []
                for index in begin:
                    start = index * chunk_size
                    digests.append(await source.sha256(start, min(chunk_size, self.size_bytes - start), window))
                for chunk in await self._sign(list(zip(begin, digests, strict=True))):
                    await queue.put(chunk)
            for _ in range(workers):
                await queue.put(None)

        async def worker() -> None:
            line, window = BulkConnection(self._http, self._bulk), Window()
            try:
                while (chunk := await queue.get()) is not None:
                    start = chunk.index * chunk_size
                    size = min(chunk_size, self.size_bytes - start)
                    if not await self._put_direct(source, line, window, chunk, start, size):
                        await self._send_chunk(source, line, window, chunk.index, start, size, 0)
                        self._direct_failures += 1  # the network is there, so it is the store
            finally:
                await line.close()

        await all_of([prepare(), *(worker() for _ in range(workers))])

    async def _sign(self, wanted: list[tuple[int, bytes]]) -> list[SignedChunk]:
        """Raises: _Outdated, UploadRemoved; ApiError where the upload has ended."""
        backoff = self._make_backoff()
        while True:
            try:
                direct = await self._files.parts(
                    self.row.file_id, [(index, digest.hex()) for index, digest in wanted])
                break
            except ApiError as error:
                match error.code:
                    case "direct_unavailable":
                        self._direct_failures = DIRECT_FAILURES
                        raise _Outdated from error
                    case "upload_closed":
                        raise _Outdated from error
                    case "not_found":
                        raise UploadRemoved(self.row.file_id) from error
                    case _:
                        await self._wait_out(error, backoff)
            except ConnectionFailed as error:
                await self._wait_out(error, backoff)
        urls = {part.index: part for part in direct.parts}
        if not all(index in urls for index, _ in wanted):
            raise ApiError("direct_incomplete", detail="the server signed fewer parts than it was asked for")
        return [SignedChunk(index, digest, urls[index].url, urls[index].headers) for index, digest in wanted]

    async def _put_direct(
        self, source: Source, line: BulkConnection, window: Window, chunk: SignedChunk, start: int, size: int
    ) -> bool:
        """Whether the store took it; False where it has to go through the server."""
        if self._direct_failures >= DIRECT_FAILURES:
            return False
        backoff = self._make_backoff()
        for tries in range(DIRECT_TRIES):
            await source.check()
            self._sending[chunk.index] = 0
            error: HyperSendError
            try:
                status = await line.put_elsewhere(
                    chunk.url, headers=chunk.headers, length=size,
                    send=self._sender(source, window, chunk.index, start, size, 0))
                if 200 <= status < 300:
                    self._reached(chunk.index, size)
                    self._direct_failures = 0
                    return True
                error = ElsewhereFailed(f"the object store answered {status}")
            except ElsewhereFailed as failed:
                status, error = 0, failed
            self._reached(chunk.index, 0)
            if status == 404:
                raise _Outdated  # the upload is complete, or lost: the server knows
            if tries < DIRECT_TRIES - 1:
                if status == 403:  # its time is over
                    chunk = (await self._sign([(chunk.index, chunk.sha256)]))[0]
                else:
                    await self._wait_out(error, backoff)
        return False

    async def _send_chunk(
        self, source: Source, line: BulkConnection, window: Window, index: int, start: int, size: int, have: int
    ) -> None:
        """Until the server has it. have: bytes of it that are there already, and counted in `done_bytes`."""
        await source.check()
        digest = await source.sha256(start, size, window)
        self._sending[index] = have
        backoff, tries, wrong, told = self._make_backoff(), 0, 0, -1
        while True:
            try:
                receipt = await self._put(source, line, window, index, start, size, digest, ask_first=tries % 2 == 1)
                if receipt != digest.hex():
                    raise SourceChanged(source.path)
                self._reached(index, size)
                return
            except ConnectionFailed as error:
                await self._wait_out(error, backoff)
            except ApiError as error:
                match error.code:
                    case "chunk_offset":
                        have = error.extra.get("have", 0)
                        have = have if isinstance(have, int) and 0 <= have <= size else 0
                        if have <= told:  # what was sent since then did not arrive
                            await self._wait_out(error, backoff)
                        told = have
                        self._reached(index, have)
                    case "digest_mismatch":
                        self._reached(index, 0)
                        await source.check()
                        wrong += 1
                        if wrong >= WRONG_DIGESTS:
                            raise CorruptTransfer(index) from error
                        digest = await source.sha256(start, size, window)
                    case "chunk_conflict":
                        raise SourceChanged(source.path) from error
                    case "upload_closed" | "verifying":
                        raise _Outdated from error
                    case "not_found":
                        raise UploadRemoved(self.row.file_id) from error
                    case "storage_full":
                        raise
                    case _:
                        await self._wait_out(error, backoff)
            tries += 1

    async def _put(
        self,
        source: Source,
        line: BulkConnection,
        window: Window,
        index: int,
        start: int,
        size: int,
        digest: bytes,
        *,
        ask_first: bool,
    ) -> str:
        """One request for the rest of a chunk; the digest that the server answers with."""
        offset = self._sending[index]
        send = self._sender(source, window, index, start, size, offset)
        headers = {"Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}
        if ask_first:
            headers["Expect"] = "100-continue"
        query = {"index": index, "offset": offset} if offset else {"index": index}
        path = file_path(self.row.file_id, "/chunk")
        answer = await line.put(path, query=query, headers=headers, length=size - offset, send=send)
        return plain_text(answer.get("sha256")) if isinstance(answer, dict) else ""

    def _sender(
        self, source: Source, window: Window, index: int, start: int, size: int, offset: int
    ) -> Callable[[Wire], None]:
        """What puts the chunk's bytes from `offset` on the wire, in a thread."""
        loop = asyncio.get_running_loop()

        def send(wire: Wire) -> None:
            position = offset
            loop.call_soon_threadsafe(self._reached, index, position)
            while position < size:
                view = source.read(start + position, min(WINDOW_BYTES, size - position), window)
                while view:
                    piece = view[: self._piece_bytes]
                    view = view[len(piece) :]
                    self._throttle(len(piece), wire.stopped)
                    wire.send(piece)
                    position += len(piece)
                    loop.call_soon_threadsafe(self._reached, index, position)
            source.check_now()

        return send

    def _reached(self, index: int, have: int) -> None:
        """So much of this chunk is on its way or there."""
        self._moved(have - self._sending.get(index, 0))
        self._sending[index] = have


def text_of(name: str) -> str:
    """A file's name need not be text."""
    return os.fsencode(name).decode("utf-8", "replace")


def init_body(
    name: str, identity: Identity, chat_id: str | None, sha256: bytes | None, extra: dict[str, Any]
) -> dict[str, Any]:
    name = text_of(name)
    body: dict[str, Any] = {
        "name": name,
        "size": identity.size,
        "mime": mimetypes.guess_type(name)[0],
        "chat_id": chat_id,
        "sha256": None if sha256 is None else sha256.hex(),
        **extra,
    }
    return {key: value for key, value in body.items() if value is not None}


def _missing(state: UploadState) -> tuple[list[int], bool]:
    """(indexes to send, whether there are others that the server still checks)."""
    there = {index for first, last in (*state.received, *state.verifying) for index in range(first, last + 1)}
    return [index for index in range(state.chunk_count) if index not in there], bool(state.verifying)


def _batches(indexes: list[int], first: int, most: int) -> Iterator[list[int]]:
    """A short one to begin with, then twice as many each time."""
    begin, count = 0, first
    while begin < len(indexes):
        yield indexes[begin : begin + count]
        begin, count = begin + count, min(most, count * 2)


def _bytes_of(ranges: list[Range], chunk_size: int, size: int) -> int:
    return sum(min((last + 1) * chunk_size, size) - first * chunk_size for first, last in ranges)
