"""The server's side of `hypersend-server doctor`: a request that carries a probe's token is answered here and not by
the room whose path it names, so that what lies between doctor and server is tried on the very paths that people use.

The token is signed with SECRET_KEY and good for some minutes; without it these paths are what they always are.
Nothing is stored but one file of fixed bytes, which DELETE removes (and `gc` where that was cut off).

    GET    /api/v1/server                what reached the server: Seen
    PUT    /api/v1/files/{id}/chunk      how the body came: Arrival
    GET    /api/v1/files/{id}/download   the fixed bytes, in the way files leave here (ranges, ETag, X-Accel-Redirect)
    DELETE /api/v1/files/{id}            removes them
    GET    /api/v1/ws                    a WebSocket that says back what it hears
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler, Middleware

from hypersend_server import __version__
from hypersend_server.client_address import client_address, is_trusted
from hypersend_server.clock import Clock
from hypersend_server.http import json_reply
from hypersend_server.metadata.files import FileRecord
from hypersend_server.settings import Network
from hypersend_server.signer import Signer
from hypersend_storage import LocalPath, Store

SCHEME = "Probe"
TTL_S = 900
SOCKET_S = 300
PROBE_BYTES = 1024 * 1024
FILE_PATH = re.compile(r"/api/v1/files/([0-9a-z]{26})(/chunk|/download)?")

SendFile = Callable[[web.Request, FileRecord], Awaitable[web.StreamResponse]]


class ProbeToken(msgspec.Struct, frozen=True, array_like=True):
    """expires_at: Unix milliseconds."""

    expires_at: int


class Seen(msgspec.Struct, kw_only=True):
    """A request as it came. peer: whose connection it was, and its port. client: who counts as having sent it."""

    version: str
    server_id: str
    peer: str
    peer_port: int
    peer_is_trusted: bool
    forwarded_for: list[str]
    client: str
    host: str
    serves_files: bool


class Arrival(msgspec.Struct, kw_only=True):
    """received_bytes of a body, and the longest pause between two of its parts."""

    received_bytes: int
    longest_pause_s: float


def probe_signer(secret_key: str) -> Signer:
    return Signer(secret_key, "doctor probe")


def probe_content() -> bytes:
    """The bytes of the probe's file: always the same, and nothing that compresses."""
    return hashlib.shake_256(b"hypersend probe").digest(PROBE_BYTES)


class ProbeEdge:
    """stores: the open ones. send: answers with a file as downloads do."""

    def __init__(
        self, signer: Signer, clock: Clock, *, server_id: str, stores: Mapping[str, Store], send: SendFile,
        trusted: Sequence[Network],
    ) -> None:
        self._signer = signer
        self._clock = clock
        self._server_id = server_id
        self._stores = stores
        self._send = send
        self._trusted = trusted

    def middleware(self) -> Middleware:
        @web.middleware
        async def probed(request: web.Request, handler: Handler) -> web.StreamResponse:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != SCHEME or not self._is_ours(token):
                return await handler(request)
            return await self._answer(request, handler)

        return probed

    def _is_ours(self, token: str) -> bool:
        try:
            return self._signer.unseal(token.strip(), ProbeToken).expires_at > self._clock()
        except ValueError:
            return False

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/api/v1/ws":
            return await self._echo(request)
        if request.path == "/api/v1/server":
            return json_reply(self._seen(request))
        found = FILE_PATH.fullmatch(request.path)
        match (request.method, found[2] if found else ""):
            case ("PUT", "/chunk"):
                return json_reply(await _arrival(request))
            case ("GET" | "HEAD", "/download") if found and "local" in self._stores:
                return await self._send(request, await asyncio.to_thread(self._file, found[1]))
            case ("DELETE", None) if found and "local" in self._stores:
                await asyncio.to_thread(_remove, self._path(found[1]))
                return web.Response(status=204)
        return await handler(request)

    def _seen(self, request: web.Request) -> Seen:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        return Seen(
            version=__version__, server_id=self._server_id, peer=request.remote or "",
            peer_port=peer[1] if isinstance(peer, tuple) else 0,
            peer_is_trusted=is_trusted(request.remote or "", self._trusted),
            forwarded_for=[entry.strip() for entry in entries if entry.strip()],
            client=client_address(request, self._trusted), host=request.host,
            serves_files="local" in self._stores)

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return json_reply({"upgrade": request.headers.get("Upgrade"), "is_websocket": False})
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        try:
            async with asyncio.timeout(SOCKET_S):
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        await socket.send_str(message.data[:100])
        except TimeoutError:
            await socket.close()
        return socket

    def _path(self, file_id: str) -> Path:
        store = self._stores["local"]
        assert isinstance(store, LocalPath)
        return store.path(_location(file_id))

    def _file(self, file_id: str) -> FileRecord:
        content, path = probe_content(), self._path(file_id)
        if not path.exists():
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o640)
        return FileRecord(
            id=file_id, owner_id="", name="probe.bin", size=len(content), mime="application/octet-stream",
            state="complete", chunk_size=len(content), checksum=hashlib.sha256(content).digest(), backend="local",
            location=_location(file_id), created_at=0)


def _location(file_id: str) -> str:
    return f"files/{file_id[-2:]}/{file_id}/probe"


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        try:
            folder.rmdir()
        except OSError:  # not there, or others' files are in it
            return


async def _arrival(request: web.Request) -> Arrival:
    arrived = Arrival(received_bytes=0, longest_pause_s=0.0)
    last = time.monotonic()
    async for part in request.content.iter_any():
        now = time.monotonic()
        if arrived.received_bytes:
            arrived.longest_pause_s = max(arrived.longest_pause_s, now - last)
        arrived.received_bytes += len(part)
        last = now
    return arrived
