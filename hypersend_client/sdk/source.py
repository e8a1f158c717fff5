"""The local file of an upload: read once for its digest and for the network, and watched for changes."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from hypersend_client.sdk.journal import Identity
from hypersend_client.sdk.transfer import in_thread
from hypersend_client.sdk.transfer_errors import FileUnreadable, SourceChanged

T = TypeVar("T")

WINDOW_BYTES = 8 * 1024 * 1024
HASH_BYTES = 256 * 1024


class Window:
    """A stretch of the file in memory, so that a chunk is read once for its digest and for the network."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = self._length = 0

    def find(self, start: int, length: int) -> memoryview | None:
        if self._start <= start and start + length <= self._start + self._length:
            return memoryview(self._buffer)[start - self._start : start - self._start + length]
        return None

    def room(self, start: int, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        self._start, self._length = start, length
        return memoryview(self._buffer)[:length]


class Source:
    """The local file, read in threads. Raises: FileUnreadable, SourceChanged."""

    def __init__(self, path: str, pool: ThreadPoolExecutor) -> None:
        self.path = path
        self._pool = pool
        self._file: io.FileIO | None = None
        self._reading = threading.Lock()
        self._identity = Identity(0, 0, 0)

    async def open(self) -> Identity:
        def work() -> Identity:
            if not os.path.isfile(self.path):
                os.stat(self.path)
                raise FileUnreadable(self.path, "it is no file")
            # Closed in `close`, as it is read from many calls.
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115
            identity = Identity.of(os.fstat(self._file.fileno()))
            if not identity.size and self._file.read(1):  # as in /proc, where all are said to be empty
                raise FileUnreadable(self.path, "it does not say how long it is")
            return identity

        self._identity = await self._do(work)
        return self._identity

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await self._do(file.close)

    async def sha256(self, start: int, length: int, window: Window) -> bytes:
        """window: keeps what was read last."""

        def work() -> bytes:
            digest, end = hashlib.sha256(), start + length
            for position in range(start, end, WINDOW_BYTES):
                view = self._load(window, position, min(WINDOW_BYTES, end - position))
                for begin in range(0, len(view), HASH_BYTES):
                    digest.update(view[begin : begin + HASH_BYTES])
            return digest.digest()

        return await self._do(work)

    def read(self, start: int, length: int, window: Window) -> memoryview:
        """At most WINDOW_BYTES; good until the window is used again. Blocking."""
        found = window.find(start, length)
        if found is not None:
            return found
        with self._disk():
            return self._load(window, start, length)

    def check_now(self) -> None:
        """Whether the path still names the very file that was opened. Blocking."""
        with self._disk():
            if Identity.of(os.stat(self.path)) != self._identity:
                raise SourceChanged(self.path)

    async def check(self) -> None:
        await self._do(self.check_now)

    def _load(self, window: Window, start: int, length: int) -> memoryview:
        file = self._file
        if file is None:
            raise ValueError("it is not open")
        view = window.room(start, length)
        with self._reading:
            file.seek(start)
            done = 0
            while done < length:
                count = file.readinto(view[done:])
                if not count:
                    raise SourceChanged(self.path)  # it became shorter
                done += count
        return view

    async def _do(self, work: Callable[[], T]) -> T:
        with self._disk():
            return await in_thread(self._pool, work)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileUnreadable(self.path, error.strerror or str(error)) from error
