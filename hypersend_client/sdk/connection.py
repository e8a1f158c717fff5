"""The WebSocket to the server: kept open, opened again when it drops, and its frames as events.

    connection.on(listener)                     # listener(event), in the event loop
    async for event in connection.events(): ... # or so
    data = await connection.request("message.send", chat_id=..., client_id=..., text=...)

Close codes: 4000–4499 and a cut line reconnect, after 0.25–0.5 s growing to 15–30 s; 4001 refreshes the token
first; 4500–4999 do not reconnect, and 4503 means that the session is over. The socket is a hint and the
database
the truth: whatever was missed meanwhile, `Sync` catches up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from hypersend_client.sdk.answers import parse_json, plain_text, translate
from hypersend_client.sdk.errors import RETRY_AFTER_MAX_S, ApiError, ConnectionFailed, HyperSendError, SignedOut
from hypersend_client.sdk.events import Event, Ready, State, StateChanged, parse
from hypersend_client.sdk.session import Session
from hypersend_client.sdk.tasks import report
from hypersend_client.sdk.transport import Transport, send_frame

log = logging.getLogger(__name__)

Listener = Callable[[Event], None]

READY_S = 15.0
ANSWER_S = 20.0
DOUBT_S = 3.0  # without an answer, and the socket is asked whether anybody is there
PROBE_S, LONGEST_PROBE_S = 5.0, 60.0  # doubled while that was in vain: a slow line is no dead one
STEADY_S = 10.0
CLOSE_S = 2.0
MAX_FRAME_BYTES = 256 * 1024


class Subscription:
    """Events from now on, in order, as an async iterator; ends when the connection is stopped."""

    def __init__(self, connection: Connection) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._unsubscribe = connection.on(self._queue.put_nowait)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """No more events; those already there can still be read."""
        self._unsubscribe()
        self._queue.put_nowait(None)


class Connection:
    def __init__(
        self,
        transport: Transport,
        session: Session,
        *,
        heartbeat_s: float = 25.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._session = session
        self._heartbeat_s = heartbeat_s
        self._monotonic = monotonic
        self._listeners: list[Listener] = []
        self._subscriptions: list[Subscription] = []
        self._refs = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._online = asyncio.Event()
        self._pong = asyncio.Event()
        self._probes: set[asyncio.Task[None]] = set()
        self._probe_s = PROBE_S
        self.state: State = "offline"
        self.error: HyperSendError | None = None

    # Listening

    def on(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(event)` for every event; answers a function that ends it. It must not block."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def events(self) -> Subscription:
        subscription = Subscription(self)
        self._subscriptions.append(subscription)
        return subscription

    async def wait_online(self) -> None:
        await self._online.wait()

    # Life

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="hypersend connection")
            self._task.add_done_callback(report)

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._probes) if task is not None]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._set("offline")
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()

    def network_changed(self) -> None:
        """The device has another network, or woke up: connect now, and doubt the socket that is there."""
        self._hurry.set()
        if self._socket is not None:
            self._doubt(self._socket)

    def _doubt(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        probe = asyncio.create_task(self._probe(socket))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    # Talking

    async def request(self, kind: str, **fields: Any) -> Any:
        """Send a frame and wait for its ack; answers the ack's `data`.

        Raises: ApiError (the `error` frame), ConnectionFailed (`sent` False: it certainly did not go out).
        """
        socket = self._socket
        if socket is None or self.state != "online":
            raise ConnectionFailed("there is no connection", sent=False)
        ref = str(next(self._refs))
        frame = json.dumps({"type": kind, "ref": ref, **fields}, separators=(",", ":"))
        if len(frame) > MAX_FRAME_BYTES:
            raise ConnectionFailed("the frame is too large for the socket", sent=False)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[ref] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                await send_frame(socket, frame)
                await asyncio.wait((answer,), timeout=DOUBT_S)
                if answer.done():
                    if answer.exception() is None:
                        self._probe_s = PROBE_S
                elif not self._probes:  # what was sent may have arrived, and its answer not: the system notices nothing
                    self._doubt(socket)
                return await answer
        except TimeoutError:
            raise ConnectionFailed("the server did not answer in time", reason="timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailed(f"the socket was cut: {error}") from error
        finally:
            self._waiting.pop(ref, None)

    async def tell(self, kind: str, **fields: Any) -> bool:
        """Send a frame without an answer, such as `typing`; False where there is no connection."""
        socket = self._socket
        if socket is None or self.state != "online":
            return False
        try:
            await send_frame(socket, json.dumps({"type": kind, **fields}, separators=(",", ":")))
        except (aiohttp.ClientError, OSError):
            return False
        return True

    # Inside

    async def _run(self) -> None:
        backoff = self._transport.backoff()
        expired, renewed = "", False  # the token that was refused, and whether another one was tried
        while True:
            self._hurry.clear()
            self._set("connecting", self.error)
            error: HyperSendError | None = None
            began = self._monotonic()
            token = ""
            try:
                token = await self._session.token()
                if token == expired:
                    token = await self._session.renew(token)
                code = await self._serve(await self._transport.websocket("/ws", token, heartbeat_s=self._heartbeat_s))
                error = ConnectionFailed(f"the socket closed with {code}")
                if code in (4001, 4501) and not renewed:
                    expired, renewed = token, True
                    continue
                if code in (4501, 4503):
                    await self._session.ended(token, "session_ended" if code == 4503 else "token_invalid")
                elif 4500 <= code <= 4999:
                    self._set("offline", ApiError(f"closed_{code}", detail="the server closed the socket for good"))
                    return
            except SignedOut as ended:
                self._set("signed_out", ended)
                return
            except ApiError as refused:
                if refused.status == 401 and not renewed:
                    expired, renewed = token, True
                    continue
                error = refused
            except HyperSendError as failed:
                error = failed
            if self._monotonic() - began > STEADY_S:
                backoff.reset()
                renewed = False
            self._set("offline", error)
            await self._pause(backoff.next_s(error))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> int:
        """Read until it closes; answers the close code, 1006 for a cut line."""
        try:
            async with asyncio.timeout(READY_S):
                message = await socket.receive()
            self._socket = socket
            while message.type is aiohttp.WSMsgType.TEXT:
                self._take(message.data)
                message = await socket.receive()
            return socket.close_code or 1006
        except TimeoutError:
            return 1006
        except (aiohttp.ClientError, OSError) as error:
            raise translate(error, self._transport.url) from error
        finally:
            self._socket = None
            lost = ConnectionFailed("the socket was cut")
            self._set("offline", lost)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(lost)
            self._waiting.clear()
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                # Not wait_for: before Python 3.12 it can swallow the cancellation of `stop`.
                async with asyncio.timeout(CLOSE_S):
                    await socket.close()

    def _take(self, text: str) -> None:
        try:
            frame = parse_json(text)
        except ValueError:
            return
        if not isinstance(frame, dict):
            return
        kind = frame.get("type")
        if kind in ("ack", "error") and "ref" in frame:
            answer = self._waiting.get(plain_text(frame["ref"]))
            if answer is None or answer.done():
                return
            if kind == "ack":
                answer.set_result(frame.get("data"))
            else:
                answer.set_exception(_refusal(frame))
        elif kind == "pong":
            self._pong.set()
        else:
            event = parse(frame)
            if isinstance(event, Ready):
                self._set("online")
            self._emit(event)

    async def _probe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._pong.clear()
        try:
            async with asyncio.timeout(self._probe_s):
                await send_frame(socket, '{"type":"ping"}')
                await self._pong.wait()
            self._probe_s = PROBE_S
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._probe_s = min(LONGEST_PROBE_S, self._probe_s * 2)
            self._hurry.set()
            await socket.close(code=1001)

    def _set(self, state: State, error: HyperSendError | None = None) -> None:
        if state == self.state and type(error) is type(self.error):
            return
        self.state, self.error = state, error
        if state == "online":
            self._online.set()
        else:
            self._online.clear()
        self._emit(StateChanged(state, error))

    def _emit(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                # A listener's mistake must not cost the connection, nor the other listeners their event.
                log.exception("a listener failed on %s", type(event).__name__)


def _refusal(frame: dict[str, Any]) -> ApiError:
    errors, wait_s = frame.get("errors"), frame.get("retry_after")
    if isinstance(wait_s, int):
        wait_s = min(max(wait_s, 0), int(RETRY_AFTER_MAX_S))  # one of a thousand digits is no float
    return ApiError(
        plain_text(frame.get("code")) or "internal",
        detail=plain_text(frame.get("detail")),
        retryable=frame.get("retryable") is True,
        errors=[e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else (),
        retry_after_s=float(wait_s) if isinstance(wait_s, int | float) else None,
    )
