"""A person of a soak: calls over HTTP, and a socket whose frames are acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import aiohttp

from tests.harness import PASSWORD

DEAF_S = 30.0


class Person:
    """One signed-in person with a socket."""

    def __init__(self, http: aiohttp.ClientSession, url: str, name: str) -> None:
        self.http = http
        self.url = url
        self.name = name
        self.id = ""
        self.headers: dict[str, str] = {}
        self.refresh_token = ""
        self.renewed_at = 0.0
        self.chats: list[str] = []
        self.sync_token: str | None = None
        self.refs = itertools.count()
        self.waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.ws: aiohttp.ClientWebSocketResponse | None = None
        self.listening: asyncio.Task[None] | None = None

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Raises: aiohttp.ClientResponseError."""
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.http.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, raise_for_status=True, **options,
        ) as answer:
            data = await answer.read()
        return json.loads(data) if data and answer.content_type == "application/json" else data

    async def sign_in(self, path: str = "/auth/login") -> None:
        extra = {"username": self.name} if path == "/auth/register" else {}
        found = await self.call("POST", path, {"email": f"{self.name}@example.org", "password": PASSWORD, **extra})
        self._hold(found)

    async def renew(self) -> None:
        self._hold(await self.call("POST", "/auth/refresh", {"refresh_token": self.refresh_token}))

    def _hold(self, session: dict[str, Any]) -> None:
        self.id = session["user"]["id"]
        self.headers = {"Authorization": f"Bearer {session['access_token']}"}
        self.refresh_token = session["refresh_token"]
        self.renewed_at = time.monotonic()

    async def connect(self) -> None:
        await self.disconnect()
        self.ws = await self.http.ws_connect(
            f"{self.url.replace('http', 'ws', 1)}/api/v1/ws", headers=self.headers, compress=0, max_msg_size=0)
        self.listening = asyncio.create_task(self._listen(self.ws))

    async def disconnect(self) -> None:
        ws, self.ws = self.ws, None
        if ws is not None:
            await ws.close()
        if self.listening is not None:
            await self.listening

    async def _listen(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            frame = json.loads(message.data)
            future = self.waiting.pop(frame["ref"], None) if frame["type"] in ("ack", "error") else None
            if future is not None and not future.done():
                future.set_result(frame)

    async def say(self, **frame: Any) -> dict[str, Any]:
        """Acknowledged within half a minute, or it counts as failed. Raises: TimeoutError; AssertionError."""
        ref = str(next(self.refs))
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.waiting[ref] = future
        assert self.ws is not None
        try:
            await self.ws.send_json({**frame, "ref": ref})
            async with asyncio.timeout(DEAF_S):
                answer = await future
        finally:
            self.waiting.pop(ref, None)
        assert answer["type"] == "ack", answer
        return answer
