"""Downloading to a local file: ranges in parallel, each chunk checked against its digest before it counts.

A worker fetches a run of neighbouring chunks by one request (`Range`, with `If-Range` so that a file that is
no longer the same is never mixed into an old part). What arrives goes to the disk about once a MiB or a
second, and into the part's journal (`parts`), so a cut or a `kill -9` costs about that much. A chunk with
a wrong digest is fetched again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp

from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError
from hypersend_client.sdk.files import Files, file_path
from hypersend_client.sdk.journal import DownloadRow, Journal
from hypersend_client.sdk.models import File
from hypersend_client.sdk.parts import Part
from hypersend_client.sdk.transfer import Transfer, all_of
from hypersend_client.sdk.transfer_errors import CorruptTransfer, RemoteFileChanged, RemoteFileGone
from hypersend_client.sdk.transport import Transport

RUN_BYTES = 64 * 1024 * 1024
FLUSH_BYTES = 1024 * 1024
FLUSH_S = 1.0
WRONG_DIGESTS = 3


class Download(Transfer[Path]):
    """Its result is the path of the finished file. row: its place in the journal."""

    def __init__(
        self,
        row: DownloadRow,
        account: tuple[str, str],
        *,
        transport: Transport,
        files: Files,
        journal: Journal,
        pool: ThreadPoolExecutor,
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
        self._parallel = parallel
        self._part: Part | None = None

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
                except (RemoteFileChanged, RemoteFileGone):
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
            await part.require_space()
            runs = deque(_runs(part))
            await all_of(self._worker(part, runs, digests) for _ in range(min(self._parallel, len(runs))))
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
        wrong: dict[int, int] = {}
        while runs:
            index, last = runs.popleft()
            backoff = self._make_backoff()
            while index <= last:
                before = self.done_bytes
                try:
                    index, asked = await self._fetch(part, index, last, digests, wrong), index
                    if index == asked and self.done_bytes == before:
                        raise ConnectionFailed("the server sent nothing")
                except HyperSendError as error:
                    while index in part.done:
                        index += 1
                    if self.done_bytes > before:
                        backoff.reset()
                    if index <= last:
                        await self._wait_out(error, backoff)

    async def _fetch(self, part: Part, first: int, last: int, digests: list[str], wrong: dict[int, int]) -> int:
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
        path = file_path(part.file.id, "/download")
        async with self._http.stream("GET", path, headers=headers, allow=frozenset({404, 416})) as response:
            skip = _skip(response, part.file, start)
            receiver = _Receiver(self, part, first, last, have, digests)
            await receiver.begin()
            try:
                async for piece in self._http.pieces(response):
                    if skip:
                        dropped, skip, piece = piece, max(0, skip - len(piece)), piece[skip:]
                        del dropped
                    if not piece:
                        continue
                    await self._throttle(len(piece))
                    if not await receiver.take(piece):
                        index = receiver.index
                        wrong[index] = wrong.get(index, 0) + 1
                        await self._drop(part, index)
                        if wrong[index] >= WRONG_DIGESTS:
                            raise CorruptTransfer(index)
                        return index
                    if receiver.index > last:
                        break
            finally:
                await receiver.flush()
        return receiver.index

    async def _drop(self, part: Part, index: int) -> None:
        """Bytes with a wrong digest are worth nothing."""
        self._moved(-part.partial.get(index, 0))
        await part.do(lambda: part.note_partial(index, 0))


class _Receiver:
    """Bytes from the network, in order, on their way to the disk. index: of the chunk that is arriving."""

    def __init__(self, transfer: Download, part: Part, first: int, last: int, have: int, digests: list[str]) -> None:
        self.index = first
        self._transfer = transfer
        self._part = part
        self._last = last
        self._have = have
        self._digests = digests
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._flushed_at = transfer._monotonic()

    async def begin(self) -> None:
        """Hash what is there of the first chunk."""
        if self._have:
            index, have, digest = self.index, self._have, self._digest
            await self._part.do(lambda: self._part.hash(digest, index, have))

    async def take(self, piece: bytes) -> bool:
        """False where `index` turned out to have a wrong digest."""
        while piece and self.index <= self._last:
            room = self._part.chunk_bytes(self.index) - self._have - self._waiting
            self._pieces.append(piece[:room])
            self._waiting += len(self._pieces[-1])
            piece = piece[room:]
            if len(self._pieces[-1]) == room:
                if not await self._end_chunk():
                    return False
            elif self._waiting >= FLUSH_BYTES or self._transfer._monotonic() - self._flushed_at > FLUSH_S:
                await self.flush()
        return True

    async def _end_chunk(self) -> bool:
        await self.flush()
        if self._digest.hexdigest() != self._digests[self.index]:
            return False
        index = self.index
        await self._part.do(lambda: self._part.note_done(index))
        self.index, self._have, self._digest = index + 1, 0, hashlib.sha256()
        return True

    async def flush(self) -> None:
        """Write down what has arrived."""
        pieces, self._pieces, size, self._waiting = self._pieces, [], self._waiting, 0
        if not size:
            return
        index, have, digest = self.index, self._have, self._digest

        def work() -> None:
            self._part.write(index, have, pieces, digest)
            self._part.note_partial(index, have + size)

        await self._part.do(work)
        self._have += size
        self._flushed_at = self._transfer._monotonic()
        self._transfer._moved(size)


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


def _skip(response: aiohttp.ClientResponse, file: File, start: int) -> int:
    """Bytes before `start` that this answer brings though they were not asked for.

    Raises: RemoteFileGone, RemoteFileChanged.
    """
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
