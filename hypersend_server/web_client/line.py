"""A page's way to its screens, which lasts while the sockets of the page come and go.

Browsers tell no page that its connection died unheard, and cannot ping. So the page's script (`hypersend_client/web/
line.js`) counts the frames of either direction and asks in text frames, where the screens' are binary:

    page → server   ?N   "I have had N of your frames": N are dropped here, and the rest kept for the next socket
    server → page   !M   "I have had M of yours": the answer to each question, and the first word of each socket

A page whose socket went comes back within RETURN_S with `?had=N` and the same name, gets what it lacks and sends what
the server lacks. Neither it nor the screens notice more than a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

RETURN_S = 60.0
MAX_KEPT_BYTES = 2 * 1024 * 1024  # beyond it the screens wait for a page that is there, and lose one that is away
MAX_ALL_KEPT_BYTES = 64 * 1024 * 1024  # of all lines; beyond it each is kept a little
LITTLE_BYTES = 64 * 1024
LEFT = (WSCloseCode.OK, WSCloseCode.GOING_AWAY)  # closed by the page itself
_HAD = re.compile(r"\?(\d{1,15})")
log = logging.getLogger(__name__)


class Budget:
    """Bytes that all lines keep."""

    def __init__(self) -> None:
        self.kept_bytes = 0


class Line:
    """name: the page's own, by which it comes back; "": one that cannot. network: where it was begun.
    ended(line): called when it is over."""

    def __init__(
        self, name: str, network: str, screens: aiohttp.ClientWebSocketResponse, budget: Budget,
        ended: Callable[[Line], None],
    ) -> None:
        self.name = name
        self.network = network
        self._screens = screens
        self._budget = budget
        self._ended = ended
        self._received = 0
        self._had = 0  # frames that the page is known to have; those after it are kept
        self._sent = 0  # frames that any socket of the page was given
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._room = asyncio.Event()
        self._more = asyncio.Event()
        self._browser: web.WebSocketResponse | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._away: asyncio.TimerHandle | None = None
        self._is_over = False
        self._pump = asyncio.create_task(self._from_screens())

    async def serve(self, request: web.Request, browser: web.WebSocketResponse, had: int) -> None:
        """One socket of the page, prepared, until it ends or a newer one takes its place. had: frames it got before."""
        if self._is_over or not self.can_go_on(had):  # since its socket was prepared
            return
        self._abort()
        if self._away is not None:
            self._away.cancel()
        self._browser, self._transport = browser, request.transport
        self._more = asyncio.Event()
        self._drop(had)
        sender = asyncio.create_task(self._to_browser(browser, had))
        try:
            async for message in browser:
                if self._browser is not browser:
                    break  # the newer one was told what had come before, and sends the rest again
                if message.type is WSMsgType.BINARY:
                    self._received += 1
                    await self._screens.send_bytes(message.data)
                elif message.type is WSMsgType.TEXT and (had_now := _HAD.fullmatch(message.data)):
                    self._drop(int(had_now[1]))
                    await browser.send_str(f"!{self._received}")
        except ConnectionError:
            pass  # either side went away, which the loops below and the next socket see
        finally:
            sender.cancel()
            if self._browser is browser:
                self._browser = self._transport = None
                if not self.name or browser.close_code in LEFT or self._is_full:
                    self.end()
                else:
                    self._away = asyncio.get_running_loop().call_later(RETURN_S, self.end)
        with contextlib.suppress(asyncio.CancelledError):
            await sender

    def can_go_on(self, had: int) -> bool:
        """Whether a page that has had so many frames lacks none that is not kept any more."""
        return self._had <= had <= self._had + len(self._kept)

    def _abort(self) -> None:
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()  # a close would be waited for, and nobody may be there to answer

    @property
    def _is_full(self) -> bool:
        return self._kept_bytes > MAX_KEPT_BYTES or (
            self._kept_bytes > LITTLE_BYTES and self._budget.kept_bytes > MAX_ALL_KEPT_BYTES)

    async def drop(self) -> None:
        """Its page was loaded again: the screens are to know that it went, before it comes."""
        self._abort()
        self.end()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump

    def end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._pump.cancel()

    async def close(self, code: WSCloseCode) -> None:
        """With the word to the page that is there."""
        if self._browser is not None:
            await self._browser.close(code=code)
        self.end()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump

    async def _from_screens(self) -> None:
        """Keep what the screens say, until they or the page are gone for good."""
        try:
            async for message in self._screens:
                if message.type is not WSMsgType.BINARY:
                    continue
                self._kept.append(message.data)
                self._count(len(message.data))
                self._more.set()
                while self._is_full:
                    if self._browser is None:
                        return
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._is_over = True
            self._count(-self._kept_bytes)
            if self._away is not None:
                self._away.cancel()
            self._ended(self)
            browser = self._browser
            with contextlib.suppress(ConnectionError):
                await self._screens.close()
            if browser is not None:
                with contextlib.suppress(ConnectionError):
                    await browser.close(code=WSCloseCode.GOING_AWAY)

    async def _to_browser(self, browser: web.WebSocketResponse, position: int) -> None:
        with contextlib.suppress(ConnectionError):
            if self.name:
                await browser.send_str(f"!{self._received}")
            while True:
                position = max(position, self._had)  # a page may say that it has what it was not yet sent again
                if position == self._had + len(self._kept):
                    self._more.clear()
                    await self._more.wait()
                    continue
                data = self._kept[position - self._had]
                position += 1
                self._sent = max(self._sent, position)
                if not self.name:
                    self._drop(position)
                await browser.send_bytes(data)

    def _count(self, size: int) -> None:
        self._kept_bytes += size
        self._budget.kept_bytes += size

    def _drop(self, had: int) -> None:
        """What the page has is kept no longer."""
        count = min(had, self._sent) - self._had
        if count > 0:
            self._count(-sum(map(len, self._kept[:count])))
            del self._kept[:count]
            self._had += count
            self._room.set()
