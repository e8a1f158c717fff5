"""The bus of several processes over Redis pub/sub. Redis is a messenger and nothing more: it keeps nothing of ours.

Own events reach this process's listeners at once, without Redis; the others get them in batches that one task
sends, so `publish` neither waits nor fails. Each batch on the channel is a MessagePack `Batch`. What cannot be
sent is dropped, and the next batch that goes through says so: whoever receives it tells its clients to sync. A
process whose subscription was interrupted does the same once it is back. So nothing is lost, only late.

Each process also hears its own batches, and sends an empty one every PULSE_S: silence for SILENT_S means that the
subscription is dead, whatever the kernel thinks of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from hypersend_server.errors import HyperSendError
from hypersend_server.realtime.events import AnyEvent, BusRefused, Frame, Joined, Resync

PULSE_S = 2.0
SILENT_S = 10.0
RETRY_S = 0.5
CONNECT_S = 3.0
REPLY_S = SILENT_S
CLOSE_S = 2.0
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_BATCH_BYTES = 512 * 1024

log = logging.getLogger(__name__)


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """process: its sender. missed: events before these were never sent. events: in order."""

    process: str
    missed: bool
    events: list[msgspec.Raw]


_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
_decode_event: Callable[[msgspec.Raw], AnyEvent] = msgspec.msgpack.Decoder(AnyEvent).decode


class RedisBus:
    """process: a name that no other process of the deployment has. channel: the same for all of them.

    pulse_s, silent_s, retry_s: seconds; see the module.
    """

    def __init__(
        self, url: str, channel: str, process: str, *, pulse_s: float = PULSE_S, silent_s: float = SILENT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._where = _where(url)
        self._channel = channel
        self._process = process
        self._pulse_s = pulse_s
        self._silent_s = silent_s
        self._retry_s = retry_s
        # Blocking, since the plain pool raises where it is empty; no retries, since a repeated PUBLISH arrives twice.
        self._redis = Redis(connection_pool=BlockingConnectionPool.from_url(
            url, max_connections=4, timeout=REPLY_S, socket_connect_timeout=CONNECT_S, socket_timeout=REPLY_S,
            socket_keepalive=True, retry=Retry(NoBackoff(), 0)))
        self._listeners: list[Callable[[AnyEvent], None]] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._missed = False
        self._failing = False
        self._wake = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sends = False
        self.sent = 0  # events that other processes could hear

    # The contract of `events.Bus`

    def publish(self, event: AnyEvent) -> None:
        self._tell(event)
        if not self._sends:
            return
        if isinstance(event, Frame) and event.except_session is not None:
            # The socket that knows already is here; one of the same session elsewhere does not.
            event = Frame(event.user_ids, event.frame)
        encoded = _encode(event)
        self._waiting_bytes += len(encoded)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._missed = True
            self._drop_waiting()
            return
        self._waiting.append(encoded)
        self._wake.set()

    def subscribe(self, listener: Callable[[AnyEvent], None]) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begin to listen and to send; while Redis is away both go on trying.

        Raises: BusRefused where Redis answers, but not to us.
        """
        try:
            await self._redis.publish(f"{self._channel}:start", b"")
        except (AuthenticationError, NoPermissionError, ResponseError) as error:
            raise BusRefused(f"REDIS_URL: Redis at {self._where} refuses: {error}") from None
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("REDIS_URL: Redis at %s cannot be reached (%s); other processes hear nothing until it can",
                        self._where, error)
        self._sends = True
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                await self._subscribed.wait()

    async def close(self) -> None:
        """Send what waits, if Redis takes it, and end."""
        pending = set(self._tasks)
        while pending:  # a cancellation that meets a timeout inside the client may be swallowed
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.2)
        self._tasks = []
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._waiting or self._missed:
                    await self._send_batch()
        self._sends = False
        await self._redis.aclose(close_connection_pool=True)
        self._listeners.clear()

    async def check(self) -> None:
        """Raises: `not_ready` where other processes cannot be heard or reached."""
        if not self._subscribed.is_set() or self._failing:
            raise HyperSendError("not_ready", "Redis cannot be reached.")

    # Out

    async def _send(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pulse_s):
                    await self._wake.wait()
            try:
                await self._send_batch()
            except (RedisError, OSError, TimeoutError) as error:
                if not self._failing:
                    log.warning("events do not reach other processes (Redis at %s: %s)", self._where, error)
                self._failing = True
                self._drop_waiting()
                await asyncio.sleep(self._retry_s)

    async def _send_batch(self) -> None:
        """Send the oldest that wait, or a sign of life. Events are out of the queue before they are sent."""
        count = size = 0
        for encoded in self._waiting:
            count += 1
            size += len(encoded)
            if size >= MAX_BATCH_BYTES:
                break
        events = self._waiting[:count]
        del self._waiting[:count]
        self._waiting_bytes -= size
        if not self._waiting:
            self._wake.clear()
        missed = self._missed
        try:
            await self._redis.publish(
                self._channel, _encode(Batch(self._process, missed, [msgspec.Raw(event) for event in events])))
        except BaseException:
            self._missed = self._missed or bool(events)
            raise
        self.sent += count
        if missed:
            self._missed = False
            if self._tasks:
                self.publish(Joined(self._process))  # who came and went meanwhile is told as a whole
        if self._failing:
            self._failing = False
            log.info("events reach other processes again")

    def _drop_waiting(self) -> None:
        self._missed = self._missed or bool(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wake.clear()

    # In

    def _tell(self, event: AnyEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                # One listener's fault must not end the subscription, nor a request that has committed.
                log.exception("a %s was not dealt with", type(event).__name__)

    async def _listen(self) -> None:
        """Stay subscribed. Each new subscription but a first one that came at once may have missed something."""
        first = True
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    while True:
                        async with asyncio.timeout(self._silent_s):
                            message = await pubsub.get_message(timeout=None)
                        if message is None:
                            continue
                        if message["type"] == "subscribe":
                            self._subscribed.set()
                            if not first:
                                self._tell(Resync())
                            first = False
                            self.publish(Joined(self._process))
                        elif message["type"] == "message":
                            self._receive(message["data"])
            except (RedisError, OSError, TimeoutError) as error:
                if first or self._subscribed.is_set():
                    log.warning("other processes are not heard (Redis at %s: %s)", self._where,
                                error or type(error).__name__)
                self._subscribed.clear()
                first = False
            await asyncio.sleep(self._retry_s)

    def _receive(self, data: bytes) -> None:
        try:
            batch = _decode_batch(data)
            if batch.process == self._process:
                return
            events = [_decode_event(event) for event in batch.events]
        except msgspec.MsgspecError as error:
            # Another version during a rolling restart, or a stranger: what it said can be read from the database.
            log.warning("a batch of events cannot be read: %s", error)
            self._tell(Resync())
            return
        for event in events:
            self._tell(event)
        if batch.missed:
            self._tell(Resync())


def _where(url: str) -> str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
