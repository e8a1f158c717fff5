"""A bare chat server without rules: aiohttp's WebSocket, msgspec, one SQLite writer thread with group commit.

    python -m benchmarks.reference_messages PORT FOLDER

GET /ws?chat=ID joins a chat. A `message.send` frame is parsed and stored (`synchronous=FULL`), acknowledged after
the commit, then forwarded to every other socket of the chat, each through a queue and a write task of its own.
Frames look as HyperSend's do, so one client drives both. No login, no membership, no counters, no search, no marks.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections import deque
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web

MAX_BATCH = 256


class Send(msgspec.Struct, tag_field="type", tag="message.send"):
    ref: str
    chat_id: str
    client_id: str
    text: str


class Message(msgspec.Struct):
    id: int
    chat_id: str
    client_id: str
    text: str
    at: float


class MessageFrame(msgspec.Struct, tag_field="type", tag="message"):
    message: Message


class Ack(msgspec.Struct, tag_field="type", tag="ack"):
    ref: str
    data: Message


class Writer:
    def __init__(self, path: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: deque[tuple[Send, float, asyncio.Future[int]]] = deque()
        self.wake = threading.Condition()
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id, client_id, text, at)")
        threading.Thread(target=self.run, daemon=True).start()

    def insert(self, frame: Send, at: float) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self.loop.create_future()
        with self.wake:
            self.queue.append((frame, at, future))
            self.wake.notify()
        return future

    def run(self) -> None:
        execute = self.connection.execute
        while True:
            with self.wake:
                while not self.queue:
                    self.wake.wait()
                batch = [self.queue.popleft() for _ in range(min(len(self.queue), MAX_BATCH))]
            execute("BEGIN IMMEDIATE")
            results = []
            for frame, at, future in batch:
                done = execute(
                    "INSERT INTO messages (chat_id, client_id, text, at) VALUES (?, ?, ?, ?)",
                    (frame.chat_id, frame.client_id, frame.text, at))
                results.append((future, done.lastrowid or 0))
            execute("COMMIT")
            self.loop.call_soon_threadsafe(resolve, results)


def resolve(results: list[tuple[asyncio.Future[int], int]]) -> None:
    for future, number in results:
        if not future.done():
            future.set_result(number)


class Listener:
    def __init__(self, ws: web.WebSocketResponse) -> None:
        self.ws = ws
        self.queue: deque[bytes] = deque()
        self.wake = asyncio.Event()

    def put(self, frame: bytes) -> None:
        self.queue.append(frame)
        self.wake.set()

    async def write(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                await self.ws.send_frame(self.queue.popleft(), WSMsgType.TEXT)


def application(root: Path) -> web.Application:
    chats: dict[str, list[Listener]] = {}
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(Send).decode
    writer: Writer

    async def start(app: web.Application) -> None:
        nonlocal writer
        writer = Writer(root / "messages.sqlite3")

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        me = Listener(ws)
        listeners = chats.setdefault(request.query["chat"], [])
        listeners.append(me)
        task = asyncio.create_task(me.write())
        try:
            me.put(b'{"type":"ready"}')
            async for message in ws:
                frame = decode(message.data)
                at = time.time()
                number = await writer.insert(frame, at)
                stored = Message(number, frame.chat_id, frame.client_id, frame.text, at)
                me.put(encode(Ack(frame.ref, stored)))
                event = encode(MessageFrame(stored))
                for listener in listeners:
                    if listener is not me:
                        listener.put(event)
        finally:
            listeners.remove(me)
            task.cancel()
        return ws

    async def ready(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.on_startup.append(start)
    app.router.add_get("/", ready)
    app.router.add_get("/ws", socket)
    return app


def main() -> None:
    web.run_app(application(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
