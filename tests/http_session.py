"""Sessions of aiohttp that leave nothing open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


@asynccontextmanager
async def http_session(*targets: Any, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A `ClientSession` of these arguments, without cookies and without a limit of connections, so that all people of
    a test may share it. It closes the WebSockets opened with it too: aiohttp leaves them to the garbage collector,
    which complains where it happens to begin with their connection.
    """
    options.setdefault("cookie_jar", aiohttp.DummyCookieJar())
    options.setdefault("connector", aiohttp.TCPConnector(limit=0))
    sockets: list[aiohttp.ClientWebSocketResponse[Any]] = []

    class Kept(aiohttp.ClientWebSocketResponse[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            sockets.append(self)

    async with aiohttp.ClientSession(*targets, ws_response_class=Kept, **options) as http:
        yield http
    for socket in sockets:  # after their connections, so that none waits for a server that does not answer
        await socket.close()
