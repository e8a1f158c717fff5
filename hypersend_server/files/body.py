"""The bytes of one request on their way in: countable, and to be cut off from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from hypersend_storage.base import Piece

T = TypeVar("T")

MIN_BYTES_PER_S = 1024
SLOW_AFTER_S = 60.0


class BodyCut(Exception):
    """Reading ended before the body did. Subclasses say why."""


class Superseded(BodyCut):
    """A newer request for the same chunk took over."""


class TooSlow(BodyCut):
    """Fewer bytes came than MIN_BYTES_PER_S over SLOW_AFTER_S."""


class ClientGone(BodyCut):
    """Whoever sent it is no longer there."""


class UploadEnded(BodyCut):
    """The upload was aborted or has expired meanwhile."""


class Body:
    """An iterator over the parts of a body that raises a `BodyCut` once `cut` was called, also while it waits.

    parts: byte parts in order; not asked again after a cut.
    """

    def __init__(
        self, parts: AsyncIterator[Piece], *, min_bytes_per_s: int = MIN_BYTES_PER_S, slow_after_s: float = SLOW_AFTER_S
    ) -> None:
        self._parts = parts
        self._cut: BodyCut | None = None
        self._reader: asyncio.Task[object] | None = None
        self._received = 0
        self._counted = 0
        self._min_bytes = min_bytes_per_s * slow_after_s
        self._slow_after_s = slow_after_s
        self._watch: asyncio.TimerHandle | None = None

    def cut(self, reason: BodyCut) -> None:
        """Let the reader raise `reason` instead of its next part. The first reason stands."""
        if self._cut is None:
            self._cut = reason
            if self._reader is not None:
                self._reader.cancel()

    def require_uncut(self) -> None:
        """Raises: what `cut` was called with."""
        if self._cut is not None:
            raise self._cut

    def close(self) -> None:
        """No more parts will be asked for."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> Piece:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._slow_after_s, self._check_rate)
        try:
            part = await self.until(lambda: anext(self._parts))
        except StopAsyncIteration:
            self.close()
            raise
        self._received += len(part)
        return part

    async def until(self, wait: Callable[[], Awaitable[T]]) -> T:
        """What is waited for before a part can be taken. Raises: what `cut` was called with; what `wait` raises."""
        self.require_uncut()
        task = self._reader = asyncio.current_task()
        try:
            return await wait()
        except asyncio.CancelledError:
            if self._cut is None or task is None:
                raise
            task.uncancel()
            raise self._cut from None
        finally:
            self._reader = None

    def _check_rate(self) -> None:
        # While nobody reads, it is our disk that is slow, not the sender.
        if self._reader is not None and self._received - self._counted < self._min_bytes:
            self.cut(TooSlow())
            return
        self._counted = self._received
        self._watch = asyncio.get_running_loop().call_later(self._slow_after_s, self._check_rate)
