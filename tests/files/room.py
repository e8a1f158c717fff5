"""The room `files` by itself: real SQLite, the real local store, real HTTP on loopback; people and chats are rows."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from hypersend_server.clock import Ids, system_clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files import handlers, handlers_download
from hypersend_server.files.bodies import Bodies
from hypersend_server.files.body import Body
from hypersend_server.files.deletions import Deletions
from hypersend_server.files.direct import DirectParts
from hypersend_server.files.downloads import Downloads
from hypersend_server.files.durability import Durability
from hypersend_server.files.housekeeping import Housekeeping
from hypersend_server.files.present import FilePresenter
from hypersend_server.files.progress import ProgressEvents
from hypersend_server.files.service import FileService
from hypersend_server.files.tickets import Tickets
from hypersend_server.files.types import InitBody, Uploader
from hypersend_server.files.uploads import Accepted, Claims, Uploads
from hypersend_server.http import Caller, register
from hypersend_server.limits import NoLimits
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.sqlite.engine import Engine, Tx, connect
from hypersend_server.metadata.sqlite.files import SqliteFiles
from hypersend_server.metadata.sqlite.schema import migrate
from hypersend_server.metadata.sqlite.server import SqliteServerRecords
from hypersend_server.middleware import problem
from hypersend_server.realtime import events
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.resources import File
from hypersend_storage.base import Store, chunk_size_for
from hypersend_storage.local import LocalStore
from tests.http_session import http_session

MIB = 1024 * 1024
PEOPLE = ("alice", "bob", "carol")
ALICE, BOB, CAROL = (Uploader(name) for name in PEOPLE)
BACKEND = "local"


class SettableClock:
    """Shows the system's time plus `offset_ms`."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def __call__(self) -> int:
        return system_clock() + self.offset_ms

    def advance(self, seconds: float) -> None:
        self.offset_ms += int(seconds * 1000)


async def parts_of(data: bytes, part: int = 256 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(data), part):
        yield data[start : start + part]


def body_of(data: bytes) -> Body:
    return Body(parts_of(data))


class Held:
    """A body that a test feeds: it waits for `give`, `end` or `fail`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.body = Body(self._parts())

    def give(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    def end(self) -> None:
        self._queue.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._queue.put_nowait(error)

    async def _parts(self) -> AsyncIterator[bytes]:
        while True:
            if self._queue.empty():
                self.asked.set()
            item = await self._queue.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item


@dataclass
class Room:
    """All parts of the room, wired as the server wires them."""

    data_root: Path
    clock: SettableClock
    engine: Engine
    files: SqliteFiles
    records: SqliteServerRecords
    store: LocalStore
    stores: dict[str, Store]
    uploads: Uploads
    durability: Durability
    service: FileService
    deletions: Deletions
    housekeeping: Housekeeping
    downloads: Downloads
    tickets: Tickets
    restamped: list[str]
    frames: list[events.AnyEvent]
    ids: Callable[[], str] = field(default_factory=Ids)
    _seq: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def init(self, size: int, *, by: Uploader = ALICE, key: str | None = None, **fields: Any) -> File:
        fields = {"name": "film.bin", **fields}
        return (await self.service.init(by, InitBody(size=size, **fields), key)).file

    async def put(
        self, file_id: str, index: int, data: bytes, *, by: Uploader = ALICE, offset: int = 0, **claims: Any
    ) -> Accepted:
        return await self.uploads.put_chunk(by, file_id, index, body_of(data), Claims(**claims), offset=offset)

    async def stored(self, content: bytes, *, by: Uploader = ALICE, **fields: Any) -> File:
        """A complete file."""
        file = await self.init(len(content), by=by, **fields)
        for index in range(-(-len(content) // file.chunk_size)):
            await self.put(
                file.id, index, content[index * file.chunk_size : (index + 1) * file.chunk_size], by=by)
        return (await self.service.complete(by, file.id)).file

    async def content(self, file_id: str) -> bytes:
        """The bytes in the store."""
        record = await self.files.get(file_id)
        assert record is not None
        if record.backend == BACKEND:
            return self.store.path(record.location).read_bytes()
        return b"".join([part async for part in self.stores[record.backend].read(record.location, 0, record.size)])

    async def code_of(self, awaitable: Any) -> str:
        """The code with which this is refused."""
        try:
            answer = await awaitable
        except HyperSendError as error:
            return error.code
        raise AssertionError(f"not refused: {answer!r}")

    async def chat(self, chat_id: str, *members: str, first_seq: int = 1) -> None:
        def job(tx: Tx) -> None:
            tx.execute("INSERT INTO chats (id, kind, created_at, updated_at, changed) VALUES (?, 'group', 1, 1, 1)"
                       " ON CONFLICT DO NOTHING", (chat_id,))
            for name in members:
                tx.execute(
                    "INSERT INTO members (chat_id, user_id, role, first_seq, joined_at, began, changed)"
                    " VALUES (?, ?, 'member', ?, 1, 1, 1)", (chat_id, name, first_seq))

        await self.engine.write(job)

    async def show(self, chat_id: str, *file_ids: str) -> int:
        """A message that shows these files; its seq."""
        seq = next(self._seq)

        def job(tx: Tx) -> None:
            for file_id in file_ids:
                tx.execute("INSERT INTO message_files VALUES (?, ?, ?)", (file_id, chat_id, seq))
                tx.execute("UPDATE files SET unshown_since = NULL WHERE id = ?", (file_id,))

        await self.engine.write(job)
        return seq

    async def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return await self.engine.write(lambda tx: tx.execute(sql, values).fetchall())

    async def is_member(self, chat_id: str, user_id: str) -> bool:
        return bool(await self.run("SELECT 1 FROM members WHERE chat_id = ? AND user_id = ?", chat_id, user_id))


def prepare(path: Path) -> None:
    with closing(connect(path)) as connection:
        migrate(connection)
        for name in PEOPLE:
            connection.execute(
                "INSERT INTO users (id, email, email_key, username, display_name, name_key, password_hash,"
                " created_at, changed) VALUES (?1, ?1, ?1, ?1, ?1, ?1, 'x', 1, 1) ON CONFLICT DO NOTHING", (name,))


async def reencode(data: bytes, max_side: int, max_bytes: int) -> tuple[str, bytes]:
    if not data.startswith(b"\xff\xd8\xff"):
        raise HyperSendError("picture_invalid")
    return "image/jpeg", data


@asynccontextmanager
async def opened(
    data_root: Path, *, boot_id: str = "boot-1", quota: int | None = None, max_file_size: int = 2**40,
    x_accel_prefix: str = "", sync_every_s: float = 0.05, chunk_size_for: Callable[[int], int] = chunk_size_for,
    others: Mapping[str, Store] = MappingProxyType({}), backend: str = BACKEND, metadata: Metadata | None = None,
) -> AsyncIterator[Room]:
    """others: further stores by name. backend: the one for new files. metadata: open, in place of SQLite's files."""
    data_root.mkdir(parents=True, exist_ok=True)
    prepare(data_root / "db.sqlite3")
    engine = Engine(data_root / "db.sqlite3")
    await engine.open()
    clock, ids = SettableClock(), Ids()
    files, records = SqliteFiles(engine), SqliteServerRecords(engine, ids)
    if metadata is not None:
        files, records = cast(SqliteFiles, metadata.files), cast(SqliteServerRecords, metadata.server)
    store = LocalStore(data_root, boot_id=boot_id)
    await store.open()
    stores: dict[str, Store] = {BACKEND: store, **others}
    for other in others.values():
        await other.open()
    bus = LocalBus()
    frames: list[events.AnyEvent] = []
    bus.subscribe(frames.append)
    deletions = Deletions(files, stores, clock)
    durability = Durability(files, stores, sync_every_s=sync_every_s)
    direct = DirectParts(files, stores, clock)
    uploads = Uploads(files, stores, durability, direct, ProgressEvents(bus), upload_ttl_s=7 * 86400, clock=clock,
                      on_full=deletions.hasten)
    restamped: list[str] = []

    async def restamp(file_id: str) -> None:
        restamped.append(file_id)

    async def is_member(chat_id: str, user_id: str) -> bool:
        return await room.is_member(chat_id, user_id)

    service = FileService(
        files, stores, uploads, direct, FilePresenter(lambda picture_id: f"/pictures/{picture_id}"), backend=backend,
        max_file_size=max_file_size, default_quota_bytes=quota, upload_ttl_s=7 * 86400, is_member=is_member,
        file_removed=restamp, reencode=reencode, init_limit=NoLimits(), clock=clock, new_id=ids,
        on_full=deletions.hasten, chunk_size_for=chunk_size_for)
    room = Room(
        data_root, clock, engine, files, records, store, stores, uploads, durability, service, deletions,
        Housekeeping(files, records, stores, uploads, deletions, service.discard, clock),
        Downloads(files, stores, x_accel_prefix=x_accel_prefix), Tickets("k" * 40, clock, ids), restamped, frames)
    await uploads.start()
    try:
        yield room
    finally:
        await uploads.close()
        await deletions.close()
        for each in stores.values():
            await each.close()
        await engine.close()


class ByName:
    """Signs in whoever sends their name as the token; upload tickets where they are welcome."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets

    async def authenticate(self, request: web.Request, *, accept_upload_ticket: bool) -> Caller:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in PEOPLE:
            return Caller(token, f"session-{token}")
        ticket = self._tickets.open_upload(token) if accept_upload_ticket else None
        if ticket is None:
            raise HyperSendError("unauthenticated")
        return Caller(ticket.user_id, ticket.session_id, False, ticket.ticket_id, ticket.chat_id)


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes
    json: Any


class Client:
    """Speaks HTTP to the room as one person."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str = "alice") -> None:
        self._http = http
        self.url = url
        self.token = token

    def as_(self, token: str) -> Client:
        return Client(self._http, self.url, token)

    async def __call__(self, method: str, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        url = path if path.startswith("http") else self.url + "/api/v1/files" + path
        if isinstance(options.get("data"), bytes):
            options["data"] = io.BytesIO(options["data"])  # aiohttp warns of large bytes
        async with self._http.request(method, url, headers=headers, **options) as response:
            body = await response.read()
            is_json = response.content_type.endswith("json") and body and method != "HEAD"
            return Answer(response.status, response.headers, body,
                          await response.json(content_type=None) if is_json else None)


@asynccontextmanager
async def served(data_root: Path, **options: Any) -> AsyncIterator[tuple[Room, Client]]:
    """The room behind HTTP."""
    @web.middleware
    async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except HyperSendError as error:
            return problem(error, "request")
        return response

    async with opened(data_root, **options) as room:
        async def is_active(user_id: str) -> bool:
            rows = await room.run("SELECT 1 FROM users WHERE id = ? AND disabled = 0", user_id)
            return bool(rows)

        app = web.Application(middlewares=[problems])
        authenticator = ByName(room.tickets)
        register(app, [
            *handlers.routes(room.service, room.uploads, room.tickets, "", Bodies()),
            *handlers_download.routes(
                room.service, room.downloads, room.tickets, authenticator, is_active, ""),
        ], authenticator)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with http_session() as http:
            try:
                yield room, Client(http, f"http://127.0.0.1:{runner.addresses[0][1]}")
            finally:
                await runner.cleanup()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def checksum_of(content: bytes, chunk_size: int) -> str:
    digests = [sha(content[start : start + chunk_size]) for start in range(0, len(content), chunk_size)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


async def refused(awaitable: Any) -> HyperSendError:
    with pytest.raises(HyperSendError) as caught:
        await awaitable
    return caught.value
