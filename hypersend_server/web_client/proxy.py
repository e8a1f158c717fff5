"""Flet's `/ws` and nothing else, passed on to the process that runs the screens.

Browsers send cookies along with a WebSocket whichever page opens it, and Flet asks no questions: so the Origin is
checked here, and the headers that go on are made here, none is copied but three that are harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from hypersend_server.client_address import client_address
from hypersend_server.errors import HyperSendError
from hypersend_server.limits import Buckets, NoLimits, network_of
from hypersend_server.settings import Network

MAX_FROM_BROWSER_BYTES = 1024 * 1024  # events and what people type; files go another way
MAX_SOCKETS = 500  # each costs the other process about 0.7 MB
CONNECT_S = 20.0
HEARTBEAT_S = 30.0
COPIED = ("Host", "User-Agent", "Accept-Language")
log = logging.getLogger(__name__)

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class SocketProxy:
    """open_session: makes the HTTP client that reaches the screens. url: of their `/ws`. origins: whose pages may
    connect besides those of the address asked for itself."""

    def __init__(
        self, open_session: Callable[[], aiohttp.ClientSession], url: str, *, origins: Collection[str],
        trusted_proxies: Sequence[Network], limit: Buckets | NoLimits,
    ) -> None:
        self._open_session = open_session
        self._session: aiohttp.ClientSession | None = None
        self._url = url
        self._origins = origins
        self._trusted = trusted_proxies
        self._limit = limit
        self._open: set[web.WebSocketResponse] = set()

    def require_origin(self, request: web.Request) -> str:
        """The page's origin. Raises: `not_allowed` where it is none of ours, or not said."""
        origin = request.headers.get("Origin", "")
        parts = urlsplit(origin)
        if origin in self._origins or (parts.scheme in ("http", "https") and parts.netloc == request.host):
            return origin
        raise HyperSendError("not_allowed", "This page may not open the app's connection.")

    async def handle(self, request: web.Request, told: dict[str, str], cookies: Sequence[str]) -> web.StreamResponse:
        """told: headers for the screens. cookies: Set-Cookie values for the browser.

        Raises: `not_allowed`, `rate_limited`, `busy`, `not_ready`.
        """
        origin = self.require_origin(request)
        address = client_address(request, self._trusted)
        if (wait_s := self._limit.take(network_of(address))) is not None:
            raise HyperSendError("rate_limited", retry_after_s=wait_s)
        if len(self._open) >= MAX_SOCKETS:
            raise HyperSendError("busy")
        headers = {name: request.headers[name] for name in COPIED if name in request.headers}
        headers |= {"X-Forwarded-For": address, "X-Forwarded-Proto": urlsplit(origin).scheme, **told}
        browser = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MAX_FROM_BROWSER_BYTES)
        for cookie in cookies:
            browser.headers.add("Set-Cookie", cookie)
        if self._session is None:
            self._session = self._open_session()
        try:
            async with asyncio.timeout(CONNECT_S):
                screens = await self._session.ws_connect(
                    self._url, headers=headers, compress=0, max_msg_size=0, autoping=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the web client cannot be reached: %s", error)
            raise HyperSendError("not_ready", "The app is starting; try again.", retry_after_s=2) from None
        async with screens:
            await browser.prepare(request)
            self._open.add(browser)
            try:
                await _join(browser, screens)
            finally:
                self._open.discard(browser)
                with contextlib.suppress(ConnectionError):
                    await browser.close(code=WSCloseCode.GOING_AWAY)
        return browser

    async def close_sockets(self) -> None:
        """The pages reconnect by themselves, once the server is back."""
        await asyncio.gather(*(browser.close(code=WSCloseCode.SERVICE_RESTART) for browser in list(self._open)))

    async def close(self) -> None:
        await self.close_sockets()
        if self._session is not None:
            await self._session.close()


async def _join(browser: web.WebSocketResponse, screens: aiohttp.ClientWebSocketResponse) -> None:
    """Until either side closes. Each send is awaited, so a slow side slows the other."""
    pumps = [asyncio.create_task(_pump(browser, screens)), asyncio.create_task(_pump(screens, browser))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        for outcome in await asyncio.gather(*pumps, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
                log.error("a web client's connection broke", exc_info=outcome)


async def _pump(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
