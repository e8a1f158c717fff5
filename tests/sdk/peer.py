"""A small server for what a healthy HyperSend never does on demand: it answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SERVER = {"server_id": "server-1", "name": "Test", "version": "0.1.0", "api_version": 1, "min_client": "0.1.0",
          "registration": "open", "max_file_size": 1, "features": [], "accent_color": "#123456", "logo_url": None}


def problem(status: int, code: str, *, retryable: bool = False, headers: dict[str, str] | None = None,
            **extra: Any) -> web.Response:
    return web.json_response(
        {"type": "x", "title": code, "status": status, "detail": f"{code} it is", "code": code,
         "retryable": retryable, "request_id": "r1", **extra},
        status=status, headers=headers, content_type="application/problem+json")


class Peer:
    """answers: path → handler; every request is kept in `seen` as (method, path)."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[str, Handler] = {}
        self.server: Any = dict(SERVER)

    def on(self, path: str, handler: Handler) -> None:
        self.answers[path] = handler

    def count(self, path: str) -> int:
        return sum(seen == path for _, seen in self.seen)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/api/v1")
        self.seen.append((request.method, path))
        self.headers.append(dict(request.headers))
        if path in self.answers:
            return await self.answers[path](request)
        if path == "/server":
            return web.json_response(self.server)
        return problem(404, "not_found")


@asynccontextmanager
async def serving(peer: Peer, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Peer]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", peer.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    peer.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield peer
    finally:
        await runner.cleanup()


class Tokens:
    """The sessions of a peer: one person, access tokens that expire when a test says so."""

    def __init__(self, peer: Peer, expires_in: int = 900) -> None:
        self.generation = 1
        self.expires_in = expires_in
        self.expired: set[str] = set()
        self.refreshed: list[str] = []
        self.ended = ""
        self.before_refresh: Callable[[], Awaitable[None]] | None = None
        peer.on("/auth/login", self.login)
        peer.on("/auth/refresh", self.refresh)
        peer.on("/users/me", self.me)

    def session(self) -> dict[str, Any]:
        return {"access_token": f"access-{self.generation}", "refresh_token": f"refresh-{self.generation}",
                "token_type": "Bearer", "expires_in": self.expires_in, "session_id": "session-1",
                "user": {"id": "user-1", "username": "ann", "display_name": "Ann", "email": "ann@example.org"}}

    def expire(self) -> None:
        self.expired.add(f"access-{self.generation}")

    async def login(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.session())

    async def refresh(self, request: web.Request) -> web.StreamResponse:
        token = json.loads(await request.read())["refresh_token"]
        self.refreshed.append(token)
        if self.before_refresh is not None:
            await self.before_refresh()
        if self.ended:
            return problem(401, self.ended)
        if token == f"refresh-{self.generation}":
            self.generation += 1
        elif token != f"refresh-{self.generation - 1}":
            return problem(401, "refresh_reused")
        return web.json_response(self.session())

    def refusal(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.ended:
            return problem(401, "session_ended")
        if token in self.expired:
            return problem(401, "token_expired", retryable=True)
        return None if token == f"access-{self.generation}" else problem(401, "token_expired", retryable=True)

    async def me(self, request: web.Request) -> web.StreamResponse:
        return self.refusal(request) or web.json_response(self.session()["user"])


class Naps:
    """Stands in for sleeping: notes how long, and only lets others run."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


class Monotonic:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
