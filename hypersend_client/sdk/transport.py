"""HTTP to one server: JSON calls with retries, and streams for bodies of any size.

Two ways in:

    answer = await transport.call("POST", "/chats", json={...})        # retries, JSON, small
    async with transport.stream("PUT", "/files/x/chunk", query={"index": 3},
                                body=chunks, length=n) as response:    # one try, any size
        receipt = await transport.read_json(response)

Paths start at `/api/v1`; one that starts with `/api/` is taken as it is, and an absolute URL (a direct part
on an object store, a ticket) goes out as it is, with no token unless it is this server's own origin.

Both raise only `HyperSendError`s: `ApiError` for a problem document, `ConnectionFailed`, `TlsFailed`,
`NotHyperSend`, `SignedOut`. Both put the access token on; on 401 `token_expired` the session is refreshed
once for all waiting calls and the request is sent again.

Bad mobile networks: 15 s to connect, 30 s without a byte from the server, 30 s without a byte taken by the
network, and no limit on the whole of a body.
"""

from __future__ import annotations

import asyncio
import base64
import json as jsonlib
import os
import random
import socket
import ssl as ssllib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from yarl import URL

from hypersend_client import __version__
from hypersend_client.sdk import lines
from hypersend_client.sdk.address import normalise
from hypersend_client.sdk.answers import parse_json, refusal_of, retry_after, translate
from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError, NotHyperSend
from hypersend_client.sdk.retry import Backoff, Random, Sleep, may_repeat
from hypersend_client.sdk.upgraded import Upgraded

CONNECT_S = 15.0
READ_S = 30.0
STALL_S = 30.0
CALL_S = 60.0
ROOM_S = 0.25
MAX_JSON_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 64 * 1024
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_UNSENT_BYTES = 256 * 1024

Query = Mapping[str, str | int | bool | None]
Body = Callable[[], AsyncIterable[bytes]]
"""Begins the body anew at each call, since a request may be sent twice."""


class Auth(Protocol):
    """Where access tokens come from."""

    async def token(self) -> str:
        """A token that is good as far as this device knows. Raises: SignedOut, and what a refresh raises."""

    async def renew(self, refused: str) -> str:
        """Another token than `refused`, which the server called expired; one refresh for all who ask."""

    async def ended(self, refused: str, reason: str) -> None:
        """The server says that the session of this token is over; returns where there is a newer one.

        Raises: SignedOut.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """data: the parsed JSON, or None where there is no body."""

    status: int
    headers: Mapping[str, str]
    data: Any


class Transport:
    """One connection pool to one server.

    auth: set once someone may sign in; None speaks without a token. ssl: a context of one's own, for a
    private certificate authority; `max_tries` counts all tries of a `call`.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth | None = None,
        ssl: ssllib.SSLContext | bool = True,
        headers: Mapping[str, str] | None = None,
        max_tries: int = 4,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        rand: Random = random.random,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.url = normalise(url)
        self.auth = auth
        self._ssl = ssl
        self._own_context: ssllib.SSLContext | None = None
        self.headers = {"User-Agent": f"hypersend/{__version__}", **(headers or {})}
        self._max_tries = max_tries
        self._monotonic = monotonic
        self._sleep = sleep
        self._rand = rand
        self.connect_s = connect_s
        self._read_s = read_s
        self.stall_s = stall_s
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    def absolute(self, path: str) -> URL:
        """The URL of a path as the API gives it (`/api/v1/pictures/…`), of a call, or of a ticket.

        Raises: NotHyperSend, where it is none.
        """
        prefix = "" if path.startswith("/api/") else "/api/v1"
        try:
            if not path.startswith(("http://", "https://")):
                return URL(self.url + prefix + path, encoded="%" in path)
            url = URL(path, encoded=True)
            url.origin()
            return url
        except ValueError as error:
            raise NotHyperSend(self.url, f"it names an address that is none: {error}") from None

    def ssl_context(self) -> ssllib.SSLContext:
        """For sockets of one's own."""
        if isinstance(self._ssl, ssllib.SSLContext):
            return self._ssl
        if self._own_context is None:
            self._own_context = ssllib.create_default_context()
            if not self._ssl:
                self._own_context.check_hostname = False
                self._own_context.verify_mode = ssllib.CERT_NONE
        return self._own_context

    def backoff(self, first_s: float = 0.5, most_s: float = 30.0) -> Backoff:
        return Backoff(first_s, most_s, rand=self._rand, sleep=self._sleep)

    # JSON calls

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        idempotent: bool | None = None,
        max_tries: int | None = None,
    ) -> Answer:
        """One JSON call, repeated with growing delays where that is safe and may help.

        idempotent: by default GET, HEAD, PUT and DELETE are. body: raw bytes in place of `json`.
        """
        repeatable = method in IDEMPOTENT if idempotent is None else idempotent
        tries = self._max_tries if max_tries is None else max_tries
        backoff = self.backoff(most_s=8.0)
        payload = body
        sent = dict(headers or {})
        if json is not None:
            payload = jsonlib.dumps(json, separators=(",", ":")).encode()
            sent["Content-Type"] = "application/json"
        while True:
            tries -= 1
            try:
                async with asyncio.timeout(CALL_S):
                    async with self._send(method, path, query, sent, payload, auth, follow=False) as response:
                        data = await self.read_json(response) if response.status not in (204, 304) else None
                        return Answer(response.status, response.headers.copy(), data)
            except TimeoutError:
                error: HyperSendError = ConnectionFailed(f"{method} {path} took too long", reason="timeout")
            except HyperSendError as failed:
                error = failed
            if tries <= 0 or not may_repeat(error, idempotent=repeatable):
                raise error
            await backoff.wait(error)

    # Streams

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        length: int | None = None,
        auth: bool = True,
        allow: frozenset[int] = frozenset(),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request whose body or answer may be of any size; no retries but the one after a refresh.

        body: makes the body; `length` is its exact size in bytes. allow: error statuses to be handed over
        rather than raised, such as 416. Redirects of GET and HEAD are followed, without the token to another
        origin. Reading the answer: `pieces(response)` translates errors; `read_json(response)`.
        """
        sent = dict(headers or {})
        if body is not None:
            if length is not None:
                sent["Content-Length"] = str(length)
            sent.setdefault("Content-Type", "application/octet-stream")
        follow = method in ("GET", "HEAD")
        async with self._send(method, path, query, sent, body, auth, follow=follow, allow=allow) as response:
            yield response

    async def pieces(self, response: aiohttp.ClientResponse, size: int = 1024 * 1024) -> AsyncIterator[bytes]:
        """The answer's body as it comes, in pieces of at most `size` bytes. Raises: ConnectionFailed."""
        iterator = response.content.iter_chunked(size)
        while True:
            try:
                # Beside sock_read, which aiohttp no longer keeps for a body whose compression is broken.
                async with asyncio.timeout(self._read_s):
                    piece = await anext(iterator)
            except StopAsyncIteration:
                return
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise translate(error, str(response.url)) from error
            yield piece

    async def read_json(self, response: aiohttp.ClientResponse) -> Any:
        """Raises: NotHyperSend where it is no JSON, ConnectionFailed."""
        data = bytearray()
        async for piece in self.pieces(response):
            data += piece
            if len(data) > MAX_JSON_BYTES:
                raise NotHyperSend(self.url, "the answer has no end")
        if not data:
            return None
        try:
            return parse_json(data)
        except ValueError:
            raise NotHyperSend(self.url, "the answer is no JSON") from None

    async def websocket(self, path: str, token: str, *, heartbeat_s: float = 25.0) -> aiohttp.ClientWebSocketResponse:
        """An open WebSocket with the token in its Authorization header.

        Raises: ConnectionFailed, TlsFailed, ApiError (the upgrade was refused).
        """
        url = self.absolute(path)
        with self._upgrading(url):
            async with asyncio.timeout(self.connect_s * 2):
                return await self._session().ws_connect(
                    url.with_scheme("wss" if url.scheme == "https" else "ws"),
                    headers={**self.headers, "Authorization": f"Bearer {token}"},
                    compress=0,
                    max_msg_size=16 * 1024 * 1024,
                    heartbeat=heartbeat_s,
                    ssl=self._ssl,
                )

    async def upgrade(self, path: str, token: str) -> Upgraded:
        """The same for whoever reads and writes the frames himself. Raises: as `websocket`."""
        url = self.absolute(path)
        key = base64.b64encode(os.urandom(16)).decode()
        with self._upgrading(url):
            async with asyncio.timeout(self.connect_s * 2):
                response = await self._session().get(
                    url,
                    headers={**self.headers, "Authorization": f"Bearer {token}", "Upgrade": "websocket",
                             "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key},
                    read_until_eof=False,
                    ssl=self._ssl,
                )
            try:
                return Upgraded(response, key)
            except BaseException:
                response.close()
                raise

    @contextmanager
    def _upgrading(self, url: URL) -> Iterator[None]:
        try:
            yield
        except aiohttp.WSServerHandshakeError as refused:
            raise ApiError(
                "unauthenticated" if refused.status == 401 else f"http_{refused.status}",
                status=refused.status,
                detail="the WebSocket was refused",
                retryable=refused.status != 401,
                retry_after_s=retry_after(refused.headers or {}),
            ) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, str(url)) from error

    # Inside

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=frugal_socket, ttl_dns_cache=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.connect_s, sock_read=self._read_s),
            )
        return self._http

    def is_own(self, url: URL) -> bool:
        """Whether it is this server's, so that the token may go there."""
        return url.origin() == URL(self.url).origin()

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Query | None,
        headers: Mapping[str, str],
        body: bytes | Body | None,
        auth: bool,
        *,
        follow: bool,
        allow: frozenset[int] = frozenset(),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.absolute(path)
        if query:
            url = url.update_query({name: _text(value) for name, value in query.items() if value is not None})
        own = self.auth if auth and self.is_own(url) else None
        token = await own.token() if own is not None else ""
        for last in (False, True):
            sent = {**self.headers, **headers}
            if own is not None:
                sent["Authorization"] = f"Bearer {token}"
            async with self._once(method, url, sent, body, follow) as response:
                if response.status not in allow and (
                    response.status >= 400 or (300 <= response.status < 400 and response.status != 304)
                ):
                    refusal = await self._refusal(response)
                else:
                    yield response
                    return
            if own is None or refusal.status != 401:
                raise refusal
            if refusal.code == "token_expired" and not last:
                token = await own.renew(token)
                continue
            if refusal.code in ("session_ended", "token_invalid", "unauthenticated", "refresh_reused"):
                await own.ended(token, refusal.code)
                if not last:
                    token = await own.token()
                    continue
            raise refusal

    @asynccontextmanager
    async def _once(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | Body | None,
        follow: bool,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        watch: _Watch | None = None
        data: Any = body
        if body is not None and not isinstance(body, bytes):
            watch = _Watch(self._monotonic)
            data = watch.over(body())
        request = self._session().request(
            method, url, data=data, headers=headers, allow_redirects=follow, max_redirects=5, ssl=self._ssl
        )
        try:
            response = await (request if watch is None else self._unstalled(request, watch))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if watch is not None and watch.error is not None:
                raise watch.error from error  # what the body itself raised: the disk, not the network
            raise translate(error, str(url)) from error
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()  # the rest is not wanted; reading it could take for ever

    async def _unstalled(self, request: Any, watch: _Watch) -> aiohttp.ClientResponse:
        """Wait for the answer's head, but not longer than `stall_s` on a network that takes no more bytes."""

        async def send() -> aiohttp.ClientResponse:
            response: aiohttp.ClientResponse = await request
            return response

        task = asyncio.create_task(send())
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=self.stall_s / 4)
                if done:
                    return task.result()
                if not watch.ended and self._monotonic() - watch.moved_at > self.stall_s:
                    raise TimeoutError("the network takes no more bytes")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        status = response.status
        problem: Any = None
        if response.content_type in ("application/problem+json", "application/json") and response.method != "HEAD":
            try:
                problem = await self.read_json(response)
            except NotHyperSend:
                problem = None
        return refusal_of(status, response.reason or "", response.headers, problem)


class _Watch:
    """Notes when the network last took a part of the body, and keeps what the body itself raised."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.moved_at = monotonic()
        self.ended = False
        self.error: BaseException | None = None

    async def over(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            async for part in body:
                # Small pieces, so that a slow network is told apart from one that stands still.
                view = memoryview(part)
                for start in range(0, len(view), PIECE_BYTES):
                    self.moved_at = self._monotonic()
                    yield bytes(view[start : start + PIECE_BYTES])
                self.moved_at = self._monotonic()
        except Exception as error:
            self.error = error
            raise
        finally:
            self.ended = True


async def send_frame(socket: aiohttp.ClientWebSocketResponse, frame: str | bytes) -> None:
    """Send it whole, and wait until there is room for the next. Raises: aiohttp.ClientError, OSError, RuntimeError."""
    try:
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiohttp has one future for all who wait for room on a line. Someone who waited before us was cancelled, and
        # it with him. The frame itself was handed over, so all that is left is to wait in another way.
        await asyncio.sleep(ROOM_S)


def frugal_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket that takes little more than the network has sent: progress is honest, a stall is seen."""
    family, kind, protocol, *_ = info
    sock = socket.socket(family=family, type=kind, proto=protocol)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    lines.be_impatient(sock)
    return sock


def _text(value: str | int | bool) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
