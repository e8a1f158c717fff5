"""The SDK against a server that answers anything: it returns or raises one of its own errors, its socket goes on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersend_client.sdk import HyperSend, HyperSendError, events
from hypersend_client.sdk.bulk import BulkConnection, Response
from hypersend_client.sdk.models import Chat, File, Message, ServerInfo, Upload
from hypersend_client.sdk.p2p_calls import PeerCalls
from hypersend_client.sdk.session import account_of
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.sdk.transport import Transport
from tests.fuzz.hostile import JSON, Raw, Routed, answer_of, answers, changed, raw_server, refusals, told
from tests.fuzz.profile import times
from tests.sdk.peer import SERVER, Naps, Peer, Tokens, serving
from tests.sdk_transfers.device import soon

FRAMES = [each["frame"] for each in json.loads(
    (Path(__file__).parent.parent / "contract" / "server_to_client.json").read_text())["frames"]]
MESSAGES = [frame["message"] for frame in FRAMES if frame["type"] == "message"]
CHATS = [frame["chat"] for frame in FRAMES if frame["type"] == "chat"]
MEMBERS = [frame["member"] for frame in FRAMES if frame["type"] == "member"]
READY = FRAMES[0]
FILE = {**MESSAGES[1]["files"][0], "size": 2500, "chunk_size": 1000, "chunk_sha256": ["ab" * 32] * 3}
UPLOADING = {**FILE, "state": "uploading", "upload": {
    "chunk_size": 1000, "chunk_count": 3, "received": [[0, 0]], "received_bytes": 1000, "partial": [[1, 5]],
    "verifying": [], "expires_at": "2026-02-01T00:00:00Z", "direct": None}}
SYNC = {"token": "t", "more": False, "full": False, "chats": CHATS, "messages": MESSAGES, "reset": ["c"], "gone": ["d"],
        "users": [CHATS[0]["peer"]], "members": [{"chat_id": CHATS[0]["id"], **MEMBERS[0]}],
        "hidden": [{"chat_id": CHATS[0]["id"], "message_id": "m"}]}
SESSION = {"access_token": "a", "refresh_token": "r", "expires_in": 900, "session_id": "s",
           "user": {**MEMBERS[0]["user"], "email": "a@example.org"}}
PROBLEM = {"type": "x", "title": "t", "status": 429, "detail": "d", "code": "rate_limited", "retryable": True,
           "request_id": "r", "errors": [{"field": "a", "problem": "b"}], "have": 5, "missing": [[0, 1]]}
RELEASE = {"release": {"version": "1.4.0", "platform": "linux", "abi": "x86_64", "size": 5, "sha256": "cd" * 32,
                       "notes": "", "mandatory": False, "url": "/api/v1/updates/1.4.0/download?platform=linux"}}
DOCUMENTS: tuple[Any, ...] = (
    SERVER, SESSION, SYNC, PROBLEM, FILE, UPLOADING, RELEASE, *MESSAGES[:2], *CHATS, SESSION["user"],
    {"items": MESSAGES, "next_cursor": "c", "rev": 5}, {"items": CHATS, "next_cursor": None}, {"items": MEMBERS},
    {"parts": [{"index": 0, "url": "https://store/x", "headers": {"a": "b"}}], "method": "PUT"},
    {"url": "/api/v1/t/x", "expires_at": "2026-02-01T00:00:00Z"}, {"sha256": "ab" * 32})
SERVER_INFO = ServerInfo.from_json(SERVER)
ACCOUNT, _ = account_of(SESSION, server_id="server-1", url="http://127.0.0.1")
log = logging.getLogger(__name__)
BOUND_S = 60  # of what takes milliseconds; a machine may be busy, but nothing may hang


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def always(work: Callable[[], Awaitable[Any]]) -> None:
    """It ends in time, and if not well, then with an error of the SDK's own."""
    async with asyncio.timeout(BOUND_S):
        try:
            await work()
        except HyperSendError as error:
            log.debug("%s", error)


CALLS: dict[str, Callable[[HyperSend], Awaitable[Any]]] = {
    "connect": lambda hs: hs.connect(), "login": lambda hs: hs.login("a@example.org", "p"),
    "renew": lambda hs: hs.session.renew("a"), "me": lambda hs: hs.me.get(), "storage": lambda hs: hs.me.storage(),
    "devices": lambda hs: hs.me.devices(), "blocks": lambda hs: hs.me.blocks(), "find": lambda hs: hs.users.find("x"),
    "stats": lambda hs: hs.admin.stats(), "audit": lambda hs: hs.admin.audit(), "chats": lambda hs: hs.chats.page(),
    "chat": lambda hs: hs.chats.get("c"), "members": lambda hs: hs.chats.members("c"),
    "messages": lambda hs: hs.messages.page("c"), "send": lambda hs: hs.messages.send("c", "x"),
    "edit": lambda hs: hs.messages.edit("c", "m", "x"), "search": lambda hs: hs.messages.search("x"),
    "file": lambda hs: hs.files.get("f"), "files": lambda hs: hs.files.page(),
    "init": lambda hs: hs.files.init({"name": "x", "size": 1}, idempotency_key="k"),
    "complete": lambda hs: hs.files.complete("f"), "parts": lambda hs: hs.files.parts("f", [(0, "ab" * 32)]),
    "ticket": lambda hs: hs.files.ticket("f"), "update": lambda hs: hs.updates.check("linux", "x86_64", "1.0.0"),
    "transfers": lambda hs: PeerCalls(hs.transport).open(), "websocket": lambda hs: hs.transport.websocket("/ws", "t"),
}


@settings(max_examples=times(300))
@given(name=st.sampled_from(sorted(CALLS)), said=st.lists(answers(*DOCUMENTS), min_size=1, max_size=3))
def call_and_see(runner: asyncio.Runner, hs: HyperSend, raw: Raw, name: str, said: list[bytes]) -> None:
    hs.server = SERVER_INFO
    hs.transport.url = raw.url
    hs.session.adopt(ACCOUNT)
    raw.answers = list(said)
    runner.run(always(lambda: CALLS[name](hs)))


def test_calls_return_or_raise_the_sdks_own_errors(runner: asyncio.Runner) -> None:
    stack = AsyncExitStack()

    async def begin() -> tuple[HyperSend, Raw]:
        raw = await stack.enter_async_context(raw_server())
        hs = await stack.enter_async_context(HyperSend(raw.url, sleep=Naps()))
        hasten(hs)
        return hs, raw

    hs, raw = runner.run(begin())
    try:
        call_and_see(runner, hs, raw)  # type: ignore[call-arg]
    finally:
        runner.run(stack.aclose())


def hasten(hs: HyperSend) -> None:
    hs.transport._read_s = 1.0  # of silence, where it waits half a minute
    backoff: Callable[..., Any] = hs.transport.backoff
    hs.transport.backoff = lambda first_s=0.5, most_s=30.0: backoff(0.01, 0.02)  # type: ignore[method-assign]


class Line:
    """A BulkConnection to a server that answers anything."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.transport = Transport(raw.url, stall_s=30)
        self.pool = ThreadPoolExecutor(2)
        self.bulk = BulkConnection(self.transport, self.pool)

    async def get(self) -> None:
        def receive(response: Response) -> bytes:
            view, data = memoryview(bytearray(4096)), b""
            while response.remaining != 0 and len(data) < 10_000:
                data += view[: response.read_into(view)]
            return data

        await self.bulk.get("/files/x/download", headers={"Range": "bytes=0-"}, receive=receive, allow=frozenset({416}))

    async def put(self) -> None:
        await self.bulk.put("/files/x/chunk", query={"index": 1}, headers={}, length=5,
                            send=lambda wire: wire.send(memoryview(b"abcde")))

    async def ask_first(self) -> None:
        await self.bulk.put("/files/x/chunk", query={"index": 1}, headers={"Expect": "100-continue"}, length=5,
                            send=lambda wire: wire.send(memoryview(b"abcde")))

    async def elsewhere(self, url: str, headers: dict[str, str]) -> None:
        await self.bulk.put_elsewhere(url, headers=headers, length=5, send=lambda wire: wire.send(memoryview(b"abcde")))


@asynccontextmanager
async def lines() -> AsyncIterator[Line]:
    async with raw_server() as raw:
        line = Line(raw)
        try:
            yield line
        finally:
            await line.bulk.close()
            await line.transport.close()
            line.pool.shutdown()


@settings(max_examples=times(200))
@given(said=st.lists(answers({"sha256": "ab" * 32}, PROBLEM), min_size=1, max_size=3),
       way=st.sampled_from(["get", "put", "ask_first"]))
def move_and_see(runner: asyncio.Runner, line: Line, said: list[bytes], way: str) -> None:
    line.raw.answers = list(said)
    runner.run(always(getattr(line, way)))


def test_bodies_of_any_size_meet_any_answer(runner: asyncio.Runner) -> None:
    stack = AsyncExitStack()
    line = runner.run(stack.enter_async_context(lines()))
    try:
        move_and_see(runner, line)  # type: ignore[call-arg]
    finally:
        runner.run(stack.aclose())


class Sockets:
    """A peer's WebSocket that sends what it is told to, and its /sync."""

    def __init__(self, peer: Peer) -> None:
        self.synced: bytes = json.dumps({"token": "t", "more": False}).encode()
        self.socket: web.WebSocketResponse | None = None
        self.syncs = 0
        peer.on("/ws", self.handle)
        peer.on("/sync", self.sync)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json(READY)
        self.socket = socket
        async for message in socket:
            assert message.type is WSMsgType.TEXT
        return socket

    async def sync(self, request: web.Request) -> web.StreamResponse:
        self.syncs += 1
        return web.Response(body=self.synced, content_type="application/json")


class Live:
    """A client that is online, with its cache and its outbox."""

    def __init__(self, hs: HyperSend, sockets: Sockets) -> None:
        self.hs = hs
        self.sockets = sockets
        self.marks = 0

    async def goes_on(self) -> None:
        """What comes after is heard, by the socket and by the cache."""
        async with asyncio.timeout(BOUND_S):
            self.marks += 1
            mark, text = str(self.marks), f"mark {self.marks}"
            is_heard, stirred = False, asyncio.Event()

            def listen(event: events.Event) -> None:
                nonlocal is_heard
                is_heard = is_heard or (isinstance(event, events.Typing) and event.user_id == mark)
                if is_heard or isinstance(event, events.StateChanged):
                    stirred.set()

            stop = self.hs.connection.on(listen)
            while not is_heard:  # a frame that is none may cost the socket, and then there is another one
                await self.hs.connection.wait_online()
                stirred.clear()
                assert self.sockets.socket is not None
                with contextlib.suppress(ConnectionError):
                    await self.sockets.socket.send_json({"type": "typing", "chat_id": "here", "user_id": mark})
                await stirred.wait()
            stop()
            await self.hs.store.set_draft("here", text)
            assert (await self.hs.store.drafts())["here"].text == text
        for task in (self.hs.connection._task, self.hs.sync._task):
            assert task is not None
            assert not task.done()

    async def meets(self, frames: list[bytes], synced: bytes) -> None:
        self.sockets.synced = synced
        assert self.sockets.socket is not None
        for frame in frames:
            await self.sockets.socket.send_frame(frame, WSMsgType.TEXT)
        self.hs.sync.request()
        await self.goes_on()
        self.sockets.synced = json.dumps({"token": "t", "more": False}).encode()
        await self.hs.store.chats()
        for chat in await self.hs.store.chats(archived=None):
            await self.hs.store.messages(chat.id)


@asynccontextmanager
async def live() -> AsyncIterator[Live]:
    async with serving(Peer()) as peer:
        Tokens(peer)
        sockets = Sockets(peer)
        async with HyperSend(peer.url, rand=lambda: 0.0, sleep=soon) as hs:
            await hs.login("ann@example.org", "p")
            hasten(hs)
            await hs.start()
            await hs.connection.wait_online()
            yield Live(hs, sockets)


@settings(max_examples=times(150))
@given(frames=st.lists(told(*FRAMES), max_size=4), synced=told(SYNC))
def listen_and_see(runner: asyncio.Runner, client: Live, frames: list[bytes], synced: bytes) -> None:
    runner.run(client.meets(frames, synced))


def test_the_socket_and_the_cache_outlive_every_frame(runner: asyncio.Runner) -> None:
    stack = AsyncExitStack()
    client = runner.run(stack.enter_async_context(live()))
    try:
        listen_and_see(runner, client)  # type: ignore[call-arg]
    finally:
        runner.run(stack.aclose())


@settings(max_examples=times(50))
@given(said=st.lists(answers(UPLOADING, FILE, {"sha256": "ab" * 32}, PROBLEM, any_line=False), min_size=1, max_size=4))
def send_and_see(runner: asyncio.Runner, hs: HyperSend, raw: Raw, said: list[bytes]) -> None:
    hs.server = SERVER_INFO
    hs.session.adopt(ACCOUNT)
    raw.answers = list(said)
    runner.run(send(hs))


async def send(hs: HyperSend) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        path.write_bytes(b"x" * 2500)
        transfers = Transfers(hs, Path(folder) / "journal", folder=Path(folder) / "Downloads", give_up_s=0.05)
        try:
            await always(lambda: upload(transfers, path))
        finally:
            async with asyncio.timeout(BOUND_S):
                await transfers.close()


async def upload(transfers: Transfers, path: Path) -> None:
    await (await transfers.upload(path)).wait()


@contextlib.contextmanager
def client_of(runner: asyncio.Runner, raw: Raw) -> Iterator[HyperSend]:
    stack = AsyncExitStack()

    async def begin() -> HyperSend:
        await stack.enter_async_context(raw_server(raw))
        hs = await stack.enter_async_context(HyperSend(raw.url, sleep=Naps()))
        hasten(hs)
        return hs

    hs = runner.run(begin())
    try:
        yield hs
    finally:
        runner.run(stack.aclose())


def test_an_upload_ends_whatever_it_is_told(runner: asyncio.Runner) -> None:
    with client_of(runner, raw := Raw()) as hs:
        send_and_see(runner, hs, raw)  # type: ignore[call-arg]


SOME = st.sampled_from([[], [[0, 0]], [[0, 1]], [[2, 2]], [[0, 2]]])
STATES = st.builds(
    lambda received, verifying, partial, state, status: answer_of({**UPLOADING, "state": state, "upload": {
        **UPLOADING["upload"], "received": received, "verifying": verifying, "partial": partial}}, status),
    SOME, SOME, st.sampled_from([[], [[1, 5]], [[0, 999], [2, 1]]]),
    st.sampled_from(["uploading", "uploading", "uploading", "completing", "expired"]), st.sampled_from([200, 200, 202]))
RECEIPT = answer_of({"sha256": hashlib.sha256(b"x" * 1000).hexdigest()})
CHUNK_CODES = ("chunk_offset", "chunk_busy", "digest_mismatch", "upload_closed", "verifying", "upload_lost",
               "storage_unavailable", "busy", "not_found", "upload_expired")
COMPLETE_CODES = ("chunks_missing", "verifying", "upload_lost", "storage_unavailable", "upload_expired", "not_found")


@settings(max_examples=times(40))
@given(states=st.lists(st.one_of(STATES, STATES, refusals("not_found", "storage_unavailable"), refusals()),
                       min_size=1, max_size=3),
       chunks=st.lists(st.one_of(st.just(RECEIPT), refusals(*CHUNK_CODES), refusals()), min_size=1, max_size=3),
       completes=st.lists(st.one_of(STATES, refusals(*COMPLETE_CODES), refusals()), min_size=1, max_size=3))
def send_in_turns_and_see(
    runner: asyncio.Runner, hs: HyperSend, raw: Routed, states: list[bytes], chunks: list[bytes],
    completes: list[bytes],
) -> None:
    hs.server = SERVER_INFO
    hs.session.adopt(ACCOUNT)
    raw.said = {"/chunk": list(chunks), "/complete": list(completes), "": list(states)}
    runner.run(send(hs))


def test_an_upload_ends_whatever_the_servers_words_and_their_order(runner: asyncio.Runner) -> None:
    with client_of(runner, raw := Routed()) as hs:
        send_in_turns_and_see(runner, hs, raw)  # type: ignore[call-arg]


@settings(max_examples=times(300))
@given(st.one_of(changed(UPLOADING, FILE, *MESSAGES, *CHATS), JSON))
def test_what_is_read_can_be_written_and_counted(document: Any) -> None:
    for kind in (File, Message, Chat, Upload):
        try:
            found = kind.from_json(document)
        except ValueError:
            continue
        again = kind.from_json(json.loads(json.dumps(found.to_json())))
        assert json.dumps(again.to_json()) == json.dumps(found.to_json())  # NaN is not equal to itself
        state = found if isinstance(found, Upload) else found.upload if isinstance(found, File) else None
        if state is not None:
            assert state.chunk_size > 0
            assert all(0 <= first <= last < state.chunk_count for first, last in (*state.received, *state.verifying))
