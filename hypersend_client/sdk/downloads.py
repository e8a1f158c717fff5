"""Downloading to a local file: ranges in parallel, each chunk checked against its digest before it counts.

A worker fetches a run of neighbouring chunks by one request (`Range`, with `If-Range` so that a file that is
no longer the same is never mixed into an old part). What arrives goes to the disk, and about once a MiB or a
second into the part's journal (`parts`), so a `kill -9` costs about that much. A chunk with
a wrong digest is fetched again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypersend_client.sdk.bulk import BulkConnection, ElsewhereFailed, Response
from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError
from hypersend_client.sdk.files import Files, file_path
from hypersend_client.sdk.journal import DownloadRow, Journal
from hypersend_client.sdk.models import File
from hypersend_client.sdk.parts import Part
from hypersend_client.sdk.transfer import Transfer, all_of
from hypersend_client.sdk.transfer_errors import CorruptTransfer, RemoteFileChanged, RemoteFileGone, Tampered
from hypersend_client.sdk.transport import Transport

RUN_BYTES = 64 * 1024 * 1024
BUFFER_BYTES = 1024 * 1024
FLUSH_BYTES = 1024 * 1024
FLUSH_S = 1.0
WRONG_DIGESTS = 3
DETOURS = 2  # tries at an object store that brought nothing


Check = Callable[[Path], Awaitable[None]]


class Download(Transfer[Path]):
    """Its result is the path of the finished file. row: its place in the journal.

    check: asked about the whole file before it takes its name, beside what the server says of it; it may raise.
    """

    def __init__(
        self,
        row: DownloadRow,
        account: tuple[str, str],
        *,
        transport: Transport,
        files: Files,
        journal: Journal,
        pool: ThreadPoolExecutor,
        bulk: ThreadPoolExecutor,
        parallel: int,
        size_bytes: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(name=Path(row.target).name, **options)
        self.row = row
        self.account = account
        self.size_bytes = size_bytes
        self._http = transport
        self._files = files
        self._journal = journal
        self._pool = pool
        self._bulk = bulk
        self._parallel = parallel
        self.check: Check | None = None
        self._part: Part | None = None
        self._detours = 0

    @property
    def file_id(self) -> str:
        return self.row.file_id

    async def _discard(self) -> None:
        if self._part is not None:
            await self._part.forget()
        else:  # cancelled before it began in this process
            stub = File(self.row.file_id, chunk_size=1)
            await Part(Path(self.row.target), stub, self.account[0], self._pool).forget()
        await self._journal.drop_download(self.row.id)

    async def _transfer(self) -> Path:
        async with self._journal.lock(self.row.id, self.row.target):
            backoff = self._make_backoff()
            while True:
                try:
                    file = await self._file()
                    return await self._download(file)
                except (RemoteFileChanged, RemoteFileGone, Tampered):
                    await self._discard()  # it can never be finished
                    raise
                except HyperSendError as error:
                    await self._wait_out(error, backoff)

    async def _file(self) -> File:
        try:
            file = await self._files.get(self.row.file_id, digests=True)
        except ApiError as error:
            if error.status == 404:
                raise RemoteFileGone(self.row.file_id) from error
            raise
        if file.state != "complete":
            raise ApiError("upload_incomplete", status=409, detail="the file is still being uploaded")
        count = -(-file.size // file.chunk_size) if file.chunk_size > 0 else 0
        if file.size and (count < 1 or len(file.chunk_sha256 or ()) != count):
            raise ApiError("file_without_digests", detail="the server does not tell the digests of this file")
        self.size_bytes = file.size
        return file

    async def _download(self, file: File) -> Path:
        part = self._part = Part(Path(self.row.target), file, self.account[0], self._pool)
        try:
            doubtful = await part.open()
            if part.placed is not None:
                return await self._finish(part, part.placed)
            self.done_bytes = part.done_bytes
            digests = file.chunk_sha256 or []
            if doubtful:
                self._set("checking")
                for index in sorted(doubtful):
                    if not await part.check(index, digests[index]):
                        self._moved(-part.chunk_bytes(index))
                self._set("running")
            self._fall_back()
            await part.require_space()
            runs = deque(_runs(part))
            await all_of(self._worker(part, runs, digests) for _ in range(min(self._parallel, len(runs))))
            if self.check is not None:
                self._set("checking")
                await self.check(part.path)
            self._set("finishing")
            return await self._finish(part, await part.finish())
        finally:
            await part.close()

    async def _finish(self, part: Part, path: Path) -> Path:
        self.done_bytes = self.size_bytes
        await part.do(lambda: part.journal_path.unlink(missing_ok=True))
        await self._journal.drop_download(self.row.id)
        self._part = None
        return path

    async def _worker(self, part: Part, runs: deque[tuple[int, int]], digests: list[str]) -> None:
        line, wrong = BulkConnection(self._http, self._bulk), dict[int, int]()
        try:
            await self._fetch_runs(line, part, runs, digests, wrong)
        finally:
            await line.close()

    async def _fetch_runs(
        self,
        line: BulkConnection,
        part: Part,
        runs: deque[tuple[int, int]],
        digests: list[str],
        wrong: dict[int, int],
    ) -> None:
        while runs:
            index, last = runs.popleft()
            backoff = self._make_backoff()
            while index <= last:
                before = self.done_bytes
                try:
                    index, asked = await self._fetch(line, part, index, last, digests, wrong), index
                    if self._detours < DETOURS:
                        self._detours = 0
                    if index == asked and self.done_bytes == before:
                        raise ConnectionFailed("the server sent nothing")
                except HyperSendError as error:
                    self._count_detour(error, moved=self.done_bytes > before)
                    while index in part.done:
                        index += 1
                    if self.done_bytes > before:
                        backoff.reset()
                    if index <= last:
                        await self._wait_out(error, backoff)

    async def _fetch(
        self, line: BulkConnection, part: Part, first: int, last: int, digests: list[str], wrong: dict[int, int]
    ) -> int:
        """One request for chunks `first` to `last`; the index of the next one to be fetched."""
        have = part.partial.get(first, 0)
        chunk_size = part.file.chunk_size
        start, end = first * chunk_size + have, last * chunk_size + part.chunk_bytes(last)
        headers = {"Range": f"bytes={start}-{end - 1}", "If-Range": part.file.etag or ""}
        if have == part.chunk_bytes(first):  # all there, and killed before its digest was looked at
            if await part.check(first, digests[first]):
                await part.do(lambda: part.note_done(first))
                return first + 1
            await self._drop(part, first)
            return first
        receiver = _Receiver(self, part, first, last, have, digests)
        is_right = await line.get(
            file_path(part.file.id, "/download"),
            query={"direct": "false"} if self._detours >= DETOURS else {},
            headers=headers,
            receive=lambda response: receiver.receive(response, start),
            allow=frozenset({404, 416}),
        )
        if not is_right:
            index = receiver.index
            wrong[index] = wrong.get(index, 0) + 1
            await self._drop(part, index)
            if wrong[index] >= WRONG_DIGESTS:
                raise CorruptTransfer(index)
        return receiver.index

    def _count_detour(self, error: HyperSendError, *, moved: bool) -> None:
        """Where the object store cannot be reached from here, the bytes come by the server."""
        if isinstance(error, ElsewhereFailed) and self._detours < DETOURS:
            self._detours = 0 if moved else self._detours + 1

    async def _drop(self, part: Part, index: int) -> None:
        """Bytes with a wrong digest are worth nothing."""
        self._moved(-part.partial.get(index, 0))
        await part.do(lambda: part.note_partial(index, 0))


class _Receiver:
    """Bytes from the network, in order, to the disk; used in a thread. index: of the chunk that is arriving."""

    def __init__(self, transfer: Download, part: Part, first: int, last: int, have: int, digests: list[str]) -> None:
        self.index = first
        self._transfer = transfer
        self._part = part
        self._last = last
        self._have = have
        self._digests = digests
        self._loop = asyncio.get_running_loop()
        self._noted, self._noted_at = have, time.monotonic()

    def receive(self, response: Response, start: int) -> bool:
        """False where `index` turned out to have a wrong digest. start: of the first byte that is wanted."""
        is_own = self._transfer._http.is_own(response.wire.url)
        skip = _skip(response, self._part.file, start, is_own=is_own)
        view = memoryview(bytearray(BUFFER_BYTES))
        while skip:
            skip -= response.read_into(view[:skip])
        with self._part.disk():
            try:
                while self.index <= self._last:
                    if not self._chunk(response, view):
                        return False
                    self.index, self._have, self._noted = self.index + 1, 0, 0
                return True
            finally:
                if self._have > self._noted:
                    self._part.note_partial(self.index, self._have)

    def _chunk(self, response: Response, view: memoryview) -> bool:
        part, index, size = self._part, self.index, self._part.chunk_bytes(self.index)
        digest = hashlib.sha256()
        part.hash(digest, index, self._have)
        while self._have < size:
            count = response.read_into(view[: min(size - self._have, self._transfer._piece_bytes)])
            part.write(index, self._have, view[:count])
            digest.update(view[:count])
            self._have += count
            self._loop.call_soon_threadsafe(self._transfer._moved, count)
            now = time.monotonic()
            if self._have - self._noted >= FLUSH_BYTES or now - self._noted_at > FLUSH_S:
                part.note_partial(index, self._have)
                self._noted, self._noted_at = self._have, now
            self._transfer._throttle(count, response.wire.stopped)
        if digest.hexdigest() != self._digests[index]:
            part.note_partial(index, size)
            self._noted = size
            return False
        part.note_done(index)
        return True


def _runs(part: Part) -> list[tuple[int, int]]:
    """(first, last) of neighbouring chunks that are missing, each of about RUN_BYTES."""
    longest = max(1, RUN_BYTES // part.file.chunk_size) if part.file.chunk_size else 1
    runs: list[tuple[int, int]] = []
    for index in range(part.chunk_count):
        if index in part.done:
            continue
        if runs and runs[-1][1] == index - 1 and index - runs[-1][0] < longest and index not in part.partial:
            runs[-1] = runs[-1][0], index
        else:
            runs.append((index, index))
    return runs


def _skip(response: Response, file: File, start: int, *, is_own: bool) -> int:
    """Bytes before `start` that this answer brings though they were not asked for.

    is_own: it is our server's, not an object store's, which has another ETag and may have lost a moved file.
    Raises: RemoteFileGone, RemoteFileChanged, ElsewhereFailed.
    """
    if not is_own:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status == 206 and total == str(file.size) and response.headers["Content-Range"].startswith(
            f"bytes {start}-"
        ):
            return 0
        if response.status == 200 and response.headers.get("Content-Length") == str(file.size):
            return start
        raise ElsewhereFailed(f"the object store answered {response.status}")
    if response.status == 404:
        raise RemoteFileGone(file.id)
    etag = response.headers.get("ETag")
    if response.status == 416 or (etag is not None and etag.removeprefix("W/") != file.etag):
        raise RemoteFileChanged(file.id)
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return 0
    if response.status == 200 and response.headers.get("Content-Length") == str(file.size):
        return start  # something on the way does not know ranges
    raise RemoteFileChanged(file.id)
