"""The tag of a whole file while it passes by; what passed before this program began is read again beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cryptography.hazmat.primitives.poly1305 import Poly1305

from hypersend_client.sdk.transfer import in_thread

STEP_BYTES = 1024 * 1024


class RunningTag:
    """key: 32 bytes, `p2p_seal.file_key`. read: (start, length) → bytes of the file, blocking, from any one thread at
    a time."""

    def __init__(
        self, key: bytes, read: Callable[[int, int], bytes | memoryview], pool: ThreadPoolExecutor,
    ) -> None:
        self.position = 0
        self._read = read
        self._pool = pool
        self._tag = Poly1305(key)
        self._whole: str | None = None
        self._lock = threading.Lock()
        self._following: asyncio.Task[None] | None = None

    def feed(self, offset: int, data: memoryview) -> None:
        """Bytes of the file that are at hand. Those that do not follow on what was hashed are read later. Blocking."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if offset <= self.position < offset + len(data):
                self._tag.update(data[self.position - offset :])
                self.position = offset + len(data)
        finally:
            self._lock.release()

    async def catch_up(self, end: Callable[[], int]) -> None:
        """Read what was not fed, until `end()` is reached."""

        def work() -> int:
            with self._lock:
                length = min(STEP_BYTES, end() - self.position)
                if length > 0:
                    self._tag.update(self._read(self.position, length))
                    self.position += length
                return self.position

        while await in_thread(self._pool, work) < end():
            await asyncio.sleep(0)

    def follow(self, end: Callable[[], int]) -> None:
        """See to it that what was not fed is read meanwhile, up to `end()`."""
        if self.position < end() and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self.catch_up(end))

    async def stop(self) -> None:
        """Raises: what reading raised."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
            if not following.cancelled():
                following.result()

    async def whole(self, size: int) -> str:
        """32 hex digits: the tag of the file, which has `size` bytes."""
        await self.stop()
        await self.catch_up(lambda: size)
        if self._whole is None:
            self._whole = self._tag.finalize().hex()
        return self._whole
