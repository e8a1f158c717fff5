"""The screens as an ASGI application: Flet's `/ws`, and nothing else.

Flet 1.0.5's own application would add static files, uploads and OAuth, which this app has otherwise or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from flet_web.fastapi.flet_app import FletApp
from flet_web.fastapi.flet_app_manager import app_manager

from hypersend_client.web.browser import Browser, browser_of, set_browser

SESSION_S = 600  # how long the state of a page that went away is kept for its return

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Connection(FletApp):  # type: ignore[misc]  # Flet has no types here
    """One browser's WebSocket.

    Flet 1.0.5 marks a session disconnected only where its loops ended well: a send that failed left it "connected"
    for ever, its tasks running; and a socket that never registered was waited for without end.
    """

    async def handle(self, websocket: WebSocket) -> None:
        try:
            await super().handle(websocket)
        except WebSocketDisconnect:
            pass  # it went away while something was being sent
        except AttributeError:
            if self._FletApp__session is not None:  # Flet asks for its id where there is none
                raise
        finally:
            session = self._FletApp__session
            if session is not None and session.connection is self:
                await app_manager.disconnect_session(self._FletApp__get_unique_session_id(session.id), SESSION_S)

    async def _FletApp__on_message(self, data: Any) -> None:
        try:
            await super()._FletApp__on_message(data)
        except RuntimeError as error:
            # The answer of a control that was taken away meanwhile would end the whole connection.
            if "is not registered" not in str(error):
                raise

    async def _FletApp__receive_loop(self) -> None:
        try:
            await super()._FletApp__receive_loop()
        finally:
            queue = self._FletApp__send_queue
            if queue is not None and self._FletApp__session is None:
                queue.put_nowait(None)


class Screens:
    """The ASGI application. main: draws a new page."""

    def __init__(self, main: Callable[..., object]) -> None:
        self._main = main

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket" and scope["path"] == "/ws":
            set_browser(browser_of(dict(scope["headers"])))
            await Connection(
                loop=asyncio.get_running_loop(), executor=app_manager.executor, main=self._main, before_main=None,
                session_timeout_seconds=SESSION_S,
            ).handle(WebSocket(scope, receive, send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            is_health = scope["path"] == "/healthz"
            await send({"type": "http.response.start", "status": 200 if is_health else 404, "headers": []})
            await send({"type": "http.response.body", "body": b"ok" if is_health else b""})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await app_manager.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                with suppress(asyncio.CancelledError):
                    await app_manager.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return


__all__ = ["Browser", "Connection", "Screens"]
