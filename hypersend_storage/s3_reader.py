"""One stored object, or a range of it, read part by part while the next part is already on its way."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from urllib3 import HTTPResponse

from hypersend_storage.base import MIB
from hypersend_storage.errors import StorageError, StorageUnavailable
from hypersend_storage.pool import Pool, settled
from hypersend_storage.s3_api import S3Api, read_some

TRIES = 3
"""In a row without a byte; an object never changes under its key, so a broken answer can be gone on with."""


BATCH = 2
"""Parts a thread reads at a time: going to it and back costs as much as copying some hundred KiB."""


class S3Reader:
    """Two batches of parts of 1 MiB are in memory at most; the rest waits in the store."""

    def __init__(self, api: S3Api, pool: Pool, key: str, start: int, length: int) -> None:
        self._api = api
        self._pool = pool
        self._key = key
        self._position = start
        self._end = start + length
        self._answer: HTTPResponse | None = None
        self._is_closing = False
        self._ready: deque[bytes] = deque()
        self._ahead: asyncio.Future[list[bytes]] | None = None

    async def next(self) -> bytes:
        """The next part; b'' behind the last. Raises: ObjectMissing, StorageUnavailable."""
        if self._ready:
            return self._ready.popleft()
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            if self._position == self._end:
                return b""
            ahead = self._pool.submit(self._read, 1)  # the first byte shall not wait for more than it must
        self._ahead = ahead
        await asyncio.wait([ahead])  # where this is cancelled, `close` ends the thread's work
        self._ahead = None
        self._ready.extend(ahead.result())
        if self._position < self._end:
            self._ahead = self._pool.submit(self._read, BATCH)
        return self._ready.popleft()

    async def close(self) -> None:
        """Let the connection go, whatever is still on its way."""
        self._is_closing = True
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            answer = self._answer
            if answer is not None and not ahead.done():
                # A thread that waits for a slow store gives up at once; or it has come to the end just now.
                with suppress(OSError, ValueError, RuntimeError):
                    answer.shutdown()
            with suppress(StorageError):
                await settled(ahead)
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _read(self, count: int) -> list[bytes]:
        """In a thread, one at a time."""
        parts = [self._read_part()]
        while len(parts) < count and self._position < self._end:
            parts.append(self._read_part())
        return parts

    def _read_part(self) -> bytes:
        for attempt in range(TRIES):
            try:
                if self._answer is None:
                    self._answer = self._api.get(self._key, self._position, self._end - self._position)
                part = read_some(self._answer, min(MIB, self._end - self._position))
                if not part:
                    raise StorageUnavailable("the object store ended its answer before its end")
            except StorageUnavailable:
                answer, self._answer = self._answer, None
                if answer is not None:
                    answer.close()
                if attempt == TRIES - 1 or self._is_closing:
                    raise
                continue
            self._position += len(part)
            if self._position == self._end:
                self._answer.release_conn()
                self._answer = None
            return part
        raise AssertionError("unreachable")
