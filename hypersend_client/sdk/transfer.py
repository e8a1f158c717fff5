"""What uploads and downloads share: their life (start, pause, resume, cancel), progress, limits, waiting.

    upload = await transfers.upload("big.iso")
    async for progress in upload.updates():
        print(progress.done_bytes, progress.bytes_per_s, progress.left_s)
    file = await upload.wait()

A transfer waits out whatever may pass (no network, 429, 503, a server that restarts) and shows it as
`waiting` with the reason; what cannot pass ends it as `failed`. Stopping the program at any moment is safe.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from hypersend_client.sdk.errors import ApiError, HyperSendError, NotHyperSend, OtherServer, TlsFailed
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.transfer_errors import TransferCancelled, TransferStalled

log = logging.getLogger(__name__)
R = TypeVar("R")
T = TypeVar("T")

State = Literal["queued", "running", "waiting", "paused", "checking", "finishing", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
SPEED_WINDOW_S = 5.0
BREAK_S = 15.0  # on a slow line bytes come in pieces of many seconds
NOTIFY_S = 0.1
SETBACKS = 20
PIECE_BYTES = 256 * 1024
# After the network came back: what was begun before it may fail only now, and must not wait as if it were away.
FRESH_S = 15.0
FRESH_WAIT_S = 1.0
# A hotel's sign-in page, or another network in which the name means another machine: it passes.
_OF_THE_NETWORK = (NotHyperSend, OtherServer, TlsFailed)


@dataclass(frozen=True, slots=True)
class Progress:
    """bytes_per_s: over the last seconds. left_s: None while it cannot be told. error: why it waits, or failed."""

    state: State
    done_bytes: int
    size_bytes: int
    bytes_per_s: float
    left_s: float | None
    error: HyperSendError | None


class RateLimit:
    """Bytes a second for all who share it; None: no limit. It may be changed at any time."""

    def __init__(self, bytes_per_s: float | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.bytes_per_s = bytes_per_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._available = 0.0
        self._at = monotonic()

    @property
    def piece_bytes(self) -> int:
        """How much to send at once, so that a slow limit is steady rather than a burst and a long pause."""
        rate = self.bytes_per_s
        return PIECE_BYTES if rate is None else int(min(PIECE_BYTES, max(1024, rate / 8)))

    def take(self, size_bytes: int) -> float:
        """0 where so many bytes may pass, else seconds after which to ask again. From any thread.

        What passes beyond the limit is waited for afterwards.
        """
        with self._lock:
            rate = self.bytes_per_s
            if rate is None:
                return 0.0
            now = self._monotonic()
            self._available = min(rate / 20, self._available + (now - self._at) * rate)
            self._at = now
            if self._available > 0:
                self._available -= size_bytes
                return 0.0
            return 0.001 - self._available / rate


class Speed:
    """Bytes a second over a sliding window."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._marks: deque[tuple[float, int]] = deque()
        self._total = 0
        self._moved_at = -math.inf

    def add(self, size_bytes: int) -> None:
        now = self._monotonic()
        self._total += size_bytes
        if now - self._moved_at > BREAK_S:  # a break is no part of how fast it goes now
            self._marks = deque([(now, self._total)] if self._marks else [])
        self._moved_at = now
        if not self._marks or now - self._marks[-1][0] > 0.1:
            self._marks.append((now, self._total - size_bytes))
        while len(self._marks) > 1 and now - self._marks[1][0] > SPEED_WINDOW_S:
            self._marks.popleft()

    def clear(self) -> None:
        self._marks.clear()

    @property
    def bytes_per_s(self) -> float:
        now = self._monotonic()
        while len(self._marks) > 1 and now - self._marks[0][0] > SPEED_WINDOW_S:
            self._marks.popleft()
        if not self._marks or now - self._moved_at > BREAK_S:
            return 0.0
        began, before = self._marks[0]
        return (self._total - before) / max(now - began, 0.05)


class Transfer(ABC, Generic[R]):
    """One upload or download.

    turn: held while it moves bytes, so that not all of many run at once. give_up_s: end as failed when it came no
    further for so long; None: wait for ever.
    """

    def __init__(
        self,
        *,
        name: str,
        turn: asyncio.Semaphore,
        limits: tuple[RateLimit, ...],
        backoff: Callable[[], Backoff],
        give_up_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.size_bytes = 0
        self.done_bytes = 0
        self.state: State = "queued"
        self.error: HyperSendError | None = None
        self.limit = RateLimit(monotonic=monotonic)
        self._limits = (self.limit, *limits)
        self._turn = turn
        self._make_backoff = backoff
        self._give_up_s = give_up_s
        self._monotonic = monotonic
        self._moved_at = monotonic()
        self._furthest = 0  # bytes; what is sent again and lost again is no way forward
        self._setbacks = 0
        self._notified_at = 0.0
        self._speed = Speed(monotonic)
        self._listeners: list[Callable[[Progress], None]] = []
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._hurry = asyncio.Event()
        self._fresh_until = float("-inf")
        self._work: asyncio.Task[R] | None = None
        self._task: asyncio.Task[R] | None = None
        self._is_cancelled = False

    # For its user

    @property
    def progress(self) -> Progress:
        speed = self._speed.bytes_per_s if self.state == "running" else 0.0
        left = max(0, self.size_bytes - self.done_bytes)
        return Progress(
            self.state, self.done_bytes, self.size_bytes, speed, left / speed if speed > 1 else None, self.error
        )

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def on_progress(self, listener: Callable[[Progress], None]) -> Callable[[], None]:
        """Call `listener(progress)` in the event loop, about ten times a second; answers a function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def updates(self, every_s: float = 0.25) -> AsyncIterator[Progress]:
        """The progress now and then, until it has ended; the last one says how."""
        while True:
            yield self.progress
            if self.ended or self._task is None or self._task.done():
                return
            await asyncio.wait({self._task}, timeout=every_s)

    def start(self) -> None:
        """Begin or go on. One that failed is tried again."""
        if self._task is None or self._task.done():
            self._is_cancelled = False
            self._furthest, self._setbacks = 0, 0
            self._moved_at = self._monotonic()
            self._set("queued")
            self._task = asyncio.create_task(self._main(), name=f"transfer {self.name}")
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def pause(self) -> None:
        self._may_run.clear()
        if self._work is not None:
            self._work.cancel()
        if not self.ended:
            self._set("paused")

    def resume(self) -> None:
        self._may_run.set()

    async def cancel(self) -> None:
        """Call it off: what was transferred is thrown away, here and on the server."""
        self._is_cancelled = True
        was_done = self.state == "done"
        await self.stop()
        if not was_done:
            await self._discard()
            self._set("cancelled", TransferCancelled())

    async def stop(self) -> None:
        """Stop for now; the journal lets it go on later."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def wait(self) -> R:
        """Its result. Raises: what ended it; TransferCancelled."""
        if self._task is None:
            raise RuntimeError("start() was not called")
        await asyncio.wait({self._task})
        if self._is_cancelled or self._task.cancelled():
            raise TransferCancelled
        return self._task.result()

    def network_changed(self) -> None:
        """Try now whatever waits for its next try, and for a while wait little."""
        self._fresh_until = self._monotonic() + FRESH_S
        self._hurry.set()
        self._hurry = asyncio.Event()

    # For uploads and downloads

    @abstractmethod
    async def _transfer(self) -> R:
        """Move what is missing; cancelled at any moment and called again later."""

    @abstractmethod
    async def _discard(self) -> None:
        """Throw away what was transferred so far."""

    async def _main(self) -> R:
        try:
            while True:
                if not self._may_run.is_set():
                    self._set("paused")
                    await self._may_run.wait()
                    self._set("queued")
                self._work = asyncio.create_task(self._with_turn())
                try:
                    result = await self._work
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    self._speed.clear()  # paused
                    self._moved_at = self._monotonic()
                    continue
                self._set("done")
                return result
        except HyperSendError as error:
            self._set("failed", error)
            raise
        except Exception:
            # A mistake of ours: it must not look as if it went on.
            log.exception("transfer %s", self.name)
            self._set("failed", HyperSendError("an error in the program"))
            raise
        finally:
            self._work = None

    async def _with_turn(self) -> R:
        async with self._turn:
            self._set("running")
            return await self._transfer()

    def _set(self, state: State, error: HyperSendError | None = None) -> None:
        self.state, self.error = state, error
        self._notify()

    def _moved(self, size_bytes: int) -> None:
        """So many more bytes are there; negative: they have to be sent again."""
        self.done_bytes += size_bytes
        if self.done_bytes > self._furthest:
            self._furthest, self._moved_at = self.done_bytes, self._monotonic()
        if size_bytes > 0:
            self._speed.add(size_bytes)
            if self.state == "waiting":
                self._set("running")
        if self._monotonic() - self._notified_at > NOTIFY_S:
            self._notify()

    def _fall_back(self) -> None:
        """What is there no more counts as moved when it is sent again; not without end, or it could go on for ever."""
        if self._furthest > self.done_bytes and self._setbacks < SETBACKS:
            self._furthest, self._setbacks = self.done_bytes, self._setbacks + 1

    def _notify(self) -> None:
        self._notified_at = self._monotonic()
        if self._listeners:
            progress = self.progress
            for listener in list(self._listeners):
                listener(progress)

    def _throttle(self, size_bytes: int, stopped: threading.Event) -> None:
        """Wait, in a thread, until so many bytes may pass, or until it is over."""
        for limit in self._limits:
            while (wait_s := limit.take(size_bytes)) > 0 and not stopped.wait(min(wait_s, 0.5)):
                pass

    @property
    def _piece_bytes(self) -> int:
        return min(limit.piece_bytes for limit in self._limits)

    async def _wait_out(self, error: HyperSendError, backoff: Backoff) -> None:
        """Wait before the next try, or less where the network comes back.

        Raises: `error` where trying again is no use; TransferStalled.
        """
        if not error.retryable and not isinstance(error, _OF_THE_NETWORK):
            raise error
        left_s = self._require_progress(error)
        self._set("waiting", error)
        hurry = self._hurry
        wait_s = min(left_s, backoff.next_s(error))
        if self._monotonic() < self._fresh_until and not (isinstance(error, ApiError) and error.retry_after_s):
            wait_s = min(wait_s, FRESH_WAIT_S)
        try:
            async with asyncio.timeout(wait_s):
                await hurry.wait()
        except TimeoutError:
            pass

    async def _wait_for_server(self, backoff: Backoff, error: ApiError | None = None) -> None:
        """Let the server go on with what it is at. Raises: TransferStalled."""
        left_s = self._require_progress(error)
        await asyncio.sleep(min(left_s, backoff.next_s(error)))

    def _require_progress(self, error: HyperSendError | None) -> float:
        """For how many seconds it may still come no further. Raises: TransferStalled where it may not."""
        if self._give_up_s is None:
            return math.inf
        idle_s = self._monotonic() - self._moved_at
        if idle_s > self._give_up_s:
            raise TransferStalled(idle_s, error) from error
        return self._give_up_s - idle_s + 0.001


async def all_of(workers: Iterable[Awaitable[Any]]) -> None:
    """Run them together; the first error stops the others, waits for them, and is raised."""
    tasks = [asyncio.ensure_future(worker) for worker in workers]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Do `work` in a thread; cancelling waits until the thread has ended, so that what it uses may be closed."""
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        future.exception()  # of no importance any more
        raise
