"""A small server of nothing but sockets, with commands that a test can hold back; clients good and bad."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from hypersend_server.clock import system_clock
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Caller
from hypersend_server.limits import Buckets, NoLimits
from hypersend_server.middleware import problem
from hypersend_server.realtime import wire
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.hub import Hub
from hypersend_server.realtime.presence import PresenceTracker
from hypersend_server.realtime.socket import PATH, SocketEdge
from hypersend_server.realtime.unknown import UnknownSockets
from tests.harness import Socket
from tests.http_session import http_session


class Sessions:
    """Tokens are `user/session`; each fails in the way a test says."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.asked = 0
        self.before_answer: Any = None

    async def authenticate_token(self, token: str) -> Caller:
        self.asked += 1
        if token == "boom":
            raise RuntimeError("a fault in the authenticator")
        if token in self.refused:
            raise HyperSendError(self.refused[token])
        user_id, _, session_id = token.partition("/")
        if not session_id:
            raise HyperSendError("token_invalid")
        caller = Caller(user_id, session_id)
        if self.before_answer is not None:
            self.before_answer()
        return caller


@dataclass
class Commands:
    """`started` in order; each send waits for `gate`. Others answer at once."""

    started: list[Any] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    most_at_once: int = 0
    _under_way: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(self, caller: Caller, frame: wire.MessageSend) -> bytes:
        self.started.append(frame.client_id)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        await self.gate.wait()
        self._under_way -= 1
        self.finished.append(frame.client_id)
        return json.dumps({"client_id": frame.client_id, "sender_id": caller.user_id}).encode()

    async def typing(self, caller: Caller, frame: wire.Typing) -> None:
        if frame.chat_id == "boom":
            raise RuntimeError("a fault in a command")
        if frame.chat_id == "hidden":
            raise HyperSendError("not_found")

    async def other(self, caller: Caller, frame: Any) -> None:
        self.started.append(frame)

    def table(self) -> dict[type[wire.ClientFrame], Any]:
        rest = {kind: self.other for kind in wire.CLIENT_FRAMES
                if kind not in (wire.Auth, wire.Ping, wire.PresenceWatch)}
        return {**rest, wire.MessageSend: self.send, wire.Typing: self.typing}


@dataclass
class Serving:
    port: int
    bus: LocalBus
    hub: Hub
    edge: SocketEdge
    presence: PresenceTracker
    sessions: Sessions
    commands: Commands
    http: aiohttp.ClientSession
    chats: dict[tuple[str, str], Any]
    rendered: list[tuple[str, str]]
    seen: list[tuple[list[str], int]]
    visible: dict[str, dict[str, int | None]]
    # Kept, since a client that nobody refers to any more closes itself.
    sockets: list[Socket] = field(default_factory=list)
    raws: list[Raw] = field(default_factory=list)

    async def open(self, token: str | None, **headers: str) -> Socket:
        """A socket as it is after the handshake."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.sockets.append(Socket(await self.http.ws_connect(
            f"ws://127.0.0.1:{self.port}{PATH}", headers=headers, compress=0, max_msg_size=0)))
        return self.sockets[-1]

    async def sign_in(self, user_id: str, session_id: str = "") -> Socket:
        opened = await self.open(f"{user_id}/{session_id or 's-' + user_id}")
        await opened.until("ready")
        return opened

    async def raw(self, user_id: str, receive_buffer: int = 0) -> Raw:
        """A client without a WebSocket library, signed in; nothing is read but what a test reads."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        # limit: the stream stops taking from the kernel when this much waits.
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {user_id}/s-{user_id}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
        raw = Raw(reader, writer)
        self.raws.append(raw)
        return raw


@dataclass
class Raw:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write_frame(self, payload: bytes, opcode: int = 1, times: int = 1) -> None:
        """One masked frame (the mask is zero), or the same one several times in a single write."""
        size = len(payload)
        if size < 126:
            length = struct.pack("!B", 0x80 | size)
        else:
            length = struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
        self.writer.write((bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload) * times)

    async def read_frame(self) -> tuple[int, bytes]:
        """(opcode, payload). Raises: IncompleteReadError at the end."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 15, await self.reader.readexactly(size)

    async def close_code(self) -> int | None:
        """Read to the close frame; None where the connection ended without one."""
        try:
            while True:
                opcode, payload = await self.read_frame()
                if opcode == 8:
                    return int.from_bytes(payload[:2], "big")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def drop(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(
    *,
    heartbeat_s: float = 30,
    grace_s: float = 5,
    auth_timeout_s: float = 10,
    rate: tuple[float, float] | None = None,
    origins: Collection[str] = (),
    visible: Mapping[str, dict[str, int | None]] | None = None,
) -> AsyncIterator[Serving]:
    """rate: frames a second and burst. visible: viewer → those whose presence they see, with last_seen_at."""
    bus, sessions, commands = LocalBus(), Sessions(), Commands()
    chats: dict[tuple[str, str], Any] = {}
    rendered: list[tuple[str, str]] = []
    seen: list[tuple[list[str], int]] = []
    sights = dict(visible or {})

    async def render_chat(chat_id: str, user_id: str) -> Any:
        rendered.append((chat_id, user_id))
        await asyncio.sleep(0)
        chat = chats.get((chat_id, user_id))
        if isinstance(chat, Exception):
            raise chat
        return chat

    async def see(viewer_id: str, user_ids: Collection[str]) -> dict[str, int | None]:
        await asyncio.sleep(0)
        return {user_id: at for user_id, at in sights.get(viewer_id, {}).items() if user_id in user_ids}

    async def record_seen(user_ids: Collection[str], at: int) -> None:
        seen.append((list(user_ids), at))

    presence = PresenceTracker(bus, see, record_seen, system_clock, grace_s)
    hub = Hub(bus, render_chat, presence, heartbeat_s)
    limits = NoLimits() if rate is None else Buckets(rate[0], rate[1], system_clock)
    edge = SocketEdge(
        hub, presence, sessions, commands.table(), epoch="epoch-1", origins=origins, limits=limits,
        clock=system_clock, auth_timeout_s=auth_timeout_s,
        unknown=UnknownSockets(lambda request: request.remote or ""))

    @web.middleware
    async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except HyperSendError as error:
            return problem(error, "request-1")

    app = web.Application(middlewares=[problems])
    app.router.add_get(PATH, edge.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await hub.start()
    async with http_session() as http:
        server = Serving(runner.addresses[0][1], bus, hub, edge, presence, sessions, commands, http, chats,
                         rendered, seen, sights)
        try:
            yield server
        finally:
            # Clients go first: those that do not read would keep a graceful stop waiting.
            for raw in server.raws:
                raw.drop()
            await http.close()
            commands.gate.set()
            await hub.close_all()
            await edge.close()
            await hub.close()
            await presence.close()
            await runner.cleanup()
