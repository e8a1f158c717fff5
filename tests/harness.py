"""A whole server for a test: the real application on a free loopback port, real SQLite, real files.

    async with running(tmp_path) as server:
        alice = await server.person("alice")
        answer = await alice.post("/chats", {"kind": "group", "title": "Tea", "member_ids": []})
        assert answer.status == 201
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hypersend_server.app import build_app
from hypersend_server.auth.passwords import Passwords
from hypersend_server.clock import Clock, system_clock
from hypersend_server.settings import Settings
from tests.http_session import http_session

PASSWORD = "correct horse battery"


class SettableClock:
    """A clock that a test moves: it shows the system's time plus `offset_ms`."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def __call__(self) -> int:
        return system_clock() + self.offset_ms

    def advance(self, seconds: float) -> None:
        self.offset_ms += int(seconds * 1000)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any = None

    @property
    def code(self) -> str | None:
        """The error's code, or None."""
        return self.json.get("code") if isinstance(self.json, dict) else None


@dataclass
class Client:
    """Speaks to the server without a session."""

    http: aiohttp.ClientSession
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    async def request(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        if path.startswith("/"):
            is_whole = path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))
            path = self.url + ("" if is_whole else "/api/v1") + path
        headers = {**self.headers, **options.pop("headers", {})}
        if json is not None:
            options["json"] = json
        if isinstance(options.get("data"), bytes):
            options["data"] = io.BytesIO(options["data"])  # aiohttp warns of large bodies that are not streams
        options.setdefault("allow_redirects", False)
        async with self.http.request(method, path, headers=headers, **options) as response:
            body = await response.read()
            is_json = response.content_type.endswith("json") and body
            decoded = await response.json(content_type=None) if is_json else None
            return Answer(response.status, response.headers, body, decoded)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Answer:
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("PUT", path, json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("PATCH", path, json, **options)

    async def delete(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("DELETE", path, json, **options)


@dataclass
class Person(Client):
    """Speaks to the server as someone who is signed in."""

    session: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.session["user"]["id"])

    @property
    def email(self) -> str:
        return str(self.session["user"]["email"])

    @property
    def token(self) -> str:
        return str(self.session["access_token"])

    async def socket(self) -> Socket:
        """A WebSocket that has said `ready`."""
        raw = await self.http.ws_connect(
            self.url.replace("http", "ws", 1) + "/api/v1/ws", headers=self.headers, compress=0, max_msg_size=0)
        socket = Socket(raw)
        await socket.until("ready")
        return socket


@dataclass
class Socket:
    """A WebSocket with its frames as objects."""

    raw: aiohttp.ClientWebSocketResponse

    async def send(self, **frame: Any) -> None:
        await self.raw.send_json(frame)

    async def receive(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next frame. Raises: ConnectionError with the close code when the socket closed."""
        message = await self.raw.receive(timeout_s)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(self.raw.close_code)
        return dict(message.json())

    async def until(self, kind: str, timeout_s: float = 10) -> dict[str, Any]:
        """The next frame of this type; those before it are dropped."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self.receive(timeout_s)
                if frame["type"] == kind:
                    return frame

    async def call(self, **frame: Any) -> dict[str, Any]:
        """Send with a ref and wait for the ack or error."""
        frame.setdefault("ref", "r")
        await self.send(**frame)
        while True:
            answer = await self.receive()
            if answer["type"] in ("ack", "error") and answer.get("ref") == frame["ref"]:
                return answer

    async def close_code(self, timeout_s: float = 10) -> int | None:
        """Read until the server closes; its close code."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.raw.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING,
                                    aiohttp.WSMsgType.ERROR):
                    return self.raw.close_code

    async def close(self) -> None:
        await self.raw.close()


@dataclass
class Server(Client):
    """The running server, and whoever has no session."""

    app: web.Application = field(default_factory=web.Application)
    settings: Settings | None = None

    async def person(self, name: str, **fields: Any) -> Person:
        """Register somebody new and sign in."""
        answer = await self.post("/auth/register", {
            "email": f"{name}@example.org", "username": name, "password": PASSWORD, "display_name": name.title(),
            **fields})
        assert answer.status == 201, answer
        return self.signed_in(answer.json)

    def signed_in(self, session: dict[str, Any]) -> Person:
        return Person(self.http, self.url, {"Authorization": f"Bearer {session['access_token']}"}, session)

    async def login(self, email: str, password: str = PASSWORD) -> Person:
        answer = await self.post("/auth/login", {"email": email, "password": password})
        assert answer.status == 200, answer
        return self.signed_in(answer.json)


@asynccontextmanager
async def running(
    data_root: Path, *, clock: Clock = system_clock, idle_s: float = 75.0, **environment: str
) -> AsyncIterator[Server]:
    """idle_s: after which a connection without a request is closed. environment: settings by their names, such as
    MAX_FILE_SIZE='1MiB'."""
    settings = Settings.from_env({
        "DATA_ROOT": str(data_root), "PORT": "0", "REGISTRATION": "open", "SECRET_KEY": "k" * 40, **environment})
    # Cheap hashes: what they cost is not what these tests are about.
    app = await build_app(settings, clock=clock, passwords=Passwords(rounds=4))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, keepalive_timeout=idle_s)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with http_session() as http:
        try:
            yield Server(http, f"http://127.0.0.1:{port}", app=app, settings=settings)
        finally:
            await runner.cleanup()
