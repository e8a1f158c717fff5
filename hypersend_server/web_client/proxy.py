"""Flet's `/ws` and nothing else, passed on to the process that runs the screens.

Browsers send cookies along with a WebSocket whichever page opens it, and Flet asks no questions: so the Origin is
checked here, and the headers that go on are made here, none is copied but three that are harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSCloseCode, web

from hypersend_server.client_address import client_address
from hypersend_server.errors import HyperSendError
from hypersend_server.limits import Buckets, NoLimits, network_of
from hypersend_server.settings import Network
from hypersend_server.web_client.line import Budget, Line

MAX_FROM_BROWSER_BYTES = 1024 * 1024  # events and what people type; files go another way
MAX_LINES_OF_ONE = 200  # network
MAX_LINES = 500  # each costs the other process about 0.7 MB
CONNECT_S = 20.0
PROTOCOL = "hypersend-line"
UNKNOWN_LINE = 4404
HEARTBEAT_S = 30.0
COPIED = ("Host", "User-Agent", "Accept-Language")
_NAME = re.compile(r"[0-9a-f]{32}")
log = logging.getLogger(__name__)


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
        self._lines: dict[str, Line] = {}
        self._beginning: list[str] = []  # networks of lines whose handshake with the screens goes on
        self._budget = Budget()

    def require_origin(self, request: web.Request) -> str:
        """The page's origin. Raises: `not_allowed` where it is none of ours, or not said."""
        origin = request.headers.get("Origin", "")
        parts = urlsplit(origin)
        if origin in self._origins or (parts.scheme in ("http", "https") and parts.netloc == request.host):
            return origin
        raise HyperSendError("not_allowed", "This page may not open the app's connection.")

    async def handle(self, request: web.Request, told: dict[str, str], cookies: Sequence[str]) -> web.StreamResponse:
        """told: headers for the screens. cookies: Set-Cookie values for the browser.

        Raises: `not_allowed`, `validation_failed`, `rate_limited`, `busy`, `not_ready`.
        """
        origin = self.require_origin(request)
        browser = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MAX_FROM_BROWSER_BYTES + 1, protocols=(PROTOCOL,))
        for cookie in cookies:
            browser.headers.add("Set-Cookie", cookie)
        name, had, older = _named(request)
        line = self._lines.get(name) if had is not None else None
        address = client_address(request, self._trusted)
        # Who comes back knows a secret; many may at once, where all of a place lost their line.
        if line is None and (wait_s := self._limit.take(network_of(address))) is not None:
            raise HyperSendError("rate_limited", retry_after_s=wait_s)
        if had is None:
            if not browser.can_prepare(request):
                raise HyperSendError("validation_failed", "This is no WebSocket handshake.")
            if older in self._lines:
                await self._lines[older].drop()
            headers = {name: request.headers[name] for name in COPIED if name in request.headers}
            headers |= {"X-Forwarded-For": address, "X-Forwarded-Proto": urlsplit(origin).scheme, **told}
            line = await self._new_line(name, network_of(address), headers)
        try:
            await browser.prepare(request)
        except BaseException:
            if line is not None and had is None:
                line.end()
            raise
        if line is None or not line.can_go_on(had or 0):
            await browser.close(code=UNKNOWN_LINE)
            return browser
        await line.serve(request, browser, had or 0)
        with contextlib.suppress(ConnectionError):
            await browser.close(code=WSCloseCode.GOING_AWAY)
        return browser

    async def _new_line(self, name: str, network: str, headers: dict[str, str]) -> Line:
        of_one = sum(line.network == network for line in self._lines.values()) + self._beginning.count(network)
        if len(self._lines) + len(self._beginning) >= MAX_LINES or of_one >= MAX_LINES_OF_ONE:
            raise HyperSendError("busy")
        if self._session is None:
            self._session = self._open_session()
        self._beginning.append(network)
        try:
            async with asyncio.timeout(CONNECT_S):
                screens = await self._session.ws_connect(
                    self._url, headers=headers, compress=0, max_msg_size=0, autoping=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the web client cannot be reached: %s", error)
            raise HyperSendError("not_ready", "The app is starting; try again.", retry_after_s=2) from None
        finally:
            self._beginning.remove(network)
        if name in self._lines:
            await screens.close()
            raise HyperSendError("not_allowed", "There is a line of this name.")
        line = Line(name, network, screens, self._budget, self._ended)
        self._lines[name or str(id(line))] = line
        await asyncio.sleep(0)  # it has to have begun before it can be ended
        return line

    def _ended(self, line: Line) -> None:
        if self._lines.get(key := line.name or str(id(line))) is line:
            del self._lines[key]

    async def close_sockets(self) -> None:
        """The pages reconnect by themselves, once the server is back."""
        await asyncio.gather(*(line.close(WSCloseCode.SERVICE_RESTART) for line in list(self._lines.values())))

    async def close(self) -> None:
        await self.close_sockets()
        if self._session is not None:
            await self._session.close()


def _named(request: web.Request) -> tuple[str, int | None, str]:
    """The page's name for its line, "" where it has none; how many frames it has had, None for a new line; the name of
    the line that it had before it was loaded again, "" for none.

    A name is as good as the page's socket: so it comes in a header, which no proxy writes into its log.
    """
    protocol, *names = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if protocol != PROTOCOL or not all(map(_NAME.fullmatch, names)):
        names = []
    name, older = [*names, "", ""][:2]
    had = request.query.get("had", "")
    return name, int(had) if name and had.isascii() and had.isdigit() and len(had) < 16 else None, older
