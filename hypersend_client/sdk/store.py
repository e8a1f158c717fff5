"""What this device remembers of one account: chats, messages, people, drafts, what waits to be sent.

One SQLite database (WAL) in one thread of its own, or `:memory:`. Reads answer models; writes go through
`write`, one transaction each, and tell `on_change` listeners afterwards what to draw again.

A chat's messages are cached without holes from `low_seq` to its newest one; rows below `low_seq` (an old
message that was edited) are kept but not shown. `synced_rev` is the chat's change counter up to which
nothing is missing. The database may be deleted at any time at the price of drafts and unsent messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypersend_client.sdk.cache import Writer
from hypersend_client.sdk.errors import LocalStorageFailed
from hypersend_client.sdk.models import Chat, Member, Message, User

T = TypeVar("T")

CACHE_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE chats (
  id TEXT PRIMARY KEY, data TEXT NOT NULL, pinned INTEGER NOT NULL, archived INTEGER NOT NULL,
  updated_at TEXT NOT NULL, peer_id TEXT, synced_rev INTEGER NOT NULL, low_seq INTEGER NOT NULL,
  members_known INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE members (
  chat_id TEXT NOT NULL, user_id TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (chat_id, user_id)
) WITHOUT ROWID;
CREATE TABLE users (id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE messages (
  chat_id TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, rev INTEGER NOT NULL,
  counts INTEGER NOT NULL,            -- 1 where it is one that can be unread
  data TEXT NOT NULL, PRIMARY KEY (chat_id, seq)
);
CREATE INDEX messages_rev ON messages (chat_id, rev);
CREATE TABLE hidden (message_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE marks (
  chat_id TEXT NOT NULL, kind TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (chat_id, kind)
) WITHOUT ROWID;
"""
# Not known to the server, so kept when the tables above are made anew.
_OWN_SCHEMA = """
CREATE TABLE IF NOT EXISTS drafts (chat_id TEXT PRIMARY KEY, text TEXT NOT NULL, reply_to TEXT);
CREATE TABLE IF NOT EXISTS outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, client_id TEXT NOT NULL UNIQUE,
  body TEXT NOT NULL,                 -- JSON of POST /chats/{id}/messages
  waiting TEXT NOT NULL,              -- JSON: local files whose upload must end first
  state TEXT NOT NULL,                -- waiting, queued, failed
  code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL
);
"""
_CACHED = ("meta", "chats", "members", "users", "messages", "hidden", "marks")


@dataclass(slots=True)
class Changes:
    """What a write changed, by id. messages, members, outbox, drafts: of these chats."""

    chats: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    outbox: set[str] = field(default_factory=set)
    drafts: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Draft:
    chat_id: str
    text: str
    reply_to: str | None = None


class Store:
    """path: a file, or ':memory:'. me: one's own user id."""

    def __init__(self, path: str | os.PathLike[str], me: str) -> None:
        self.path = str(path)
        self.me = me
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hypersend-store")
        self._listeners: list[Callable[[Changes], None]] = []

    async def open(self) -> None:
        """Raises: LocalStorageFailed. A damaged database is set aside (`<name>.damaged`) and made anew."""
        self._db = await self._in_thread(self._open)

    async def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, db.close)
        self._thread.shutdown(wait=False)

    async def erase(self) -> None:
        """Close it and remove it from the disk."""
        await self.close()
        if self.path != ":memory:":
            for suffix in ("", "-wal", "-shm"):
                await asyncio.to_thread(Path(self.path + suffix).unlink, missing_ok=True)

    def on_change(self, listener: Callable[[Changes], None]) -> Callable[[], None]:
        """Call `listener(changes)` in the event loop after each write; answers a function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    # Transactions

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(lambda: job(self._open_db()))

    async def write(self, job: Callable[[Writer], T], *, durable: bool = False) -> T:
        """Run `job` in one transaction, then tell the listeners.

        durable: it survives even a loss of power; anything survives the end of the process.
        """
        changes = Changes()

        def work() -> T:
            db = self._open_db()
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                result = job(Writer(db, self.me, changes))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        result = await self._in_thread(work)
        if changes:
            for listener in list(self._listeners):
                listener(changes)
        return result

    # Reading

    async def chats(self, *, archived: bool | None = False) -> list[Chat]:
        """Pinned first, then by the last message. archived: None for all."""
        rows = await self._all(
            "SELECT data FROM chats WHERE archived = ifnull(?, archived)"
            " ORDER BY pinned DESC, updated_at DESC, id DESC",
            (archived,),
        )
        return [Chat.from_json(json.loads(data)) for (data,) in rows]

    async def chat(self, chat_id: str) -> Chat | None:
        rows = await self._all("SELECT data FROM chats WHERE id = ?", (chat_id,))
        return Chat.from_json(json.loads(rows[0][0])) if rows else None

    async def messages(self, chat_id: str, *, before_seq: int | None = None, limit: int = 100) -> list[Message]:
        """The newest `limit` below `before_seq` that are here without holes, in order of `seq`."""
        rows = await self._all(
            "SELECT m.data FROM messages m JOIN chats c ON c.id = m.chat_id"
            " WHERE m.chat_id = ? AND m.seq >= c.low_seq AND m.seq < ? ORDER BY m.seq DESC LIMIT ?",
            (chat_id, 2**62 if before_seq is None else before_seq, limit),
        )
        return [Message.from_json(json.loads(data)) for (data,) in reversed(rows)]

    async def message(self, message_id: str) -> Message | None:
        rows = await self._all("SELECT data FROM messages WHERE id = ?", (message_id,))
        return Message.from_json(json.loads(rows[0][0])) if rows else None

    async def low_seq(self, chat_id: str) -> int | None:
        """From here on all messages are in the cache; None for a chat that is not known."""
        rows = await self._all("SELECT low_seq FROM chats WHERE id = ?", (chat_id,))
        return int(rows[0][0]) if rows else None

    async def members(self, chat_id: str) -> list[Member]:
        rows = await self._all("SELECT data FROM members WHERE chat_id = ?", (chat_id,))
        return [Member.from_json(json.loads(data)) for (data,) in rows]

    async def users(self, ids: Iterable[str]) -> dict[str, User]:
        """Those that are known here."""
        wanted = json.dumps(list(ids))
        rows = await self._all("SELECT data FROM users WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
        return {user.id: user for user in (User.from_json(json.loads(data)) for (data,) in rows)}

    async def setting(self, key: str) -> str | None:
        rows = await self._all("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    # Drafts

    async def drafts(self) -> dict[str, Draft]:
        rows = await self._all("SELECT chat_id, text, reply_to FROM drafts", ())
        return {row[0]: Draft(*row) for row in rows}

    async def set_draft(self, chat_id: str, text: str, reply_to: str | None = None) -> None:
        """An empty draft is none."""

        def work(writer: Writer) -> None:
            if text or reply_to:
                writer.db.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?)", (chat_id, text, reply_to))
            else:
                writer.db.execute("DELETE FROM drafts WHERE chat_id = ?", (chat_id,))
            writer.changes.drafts.add(chat_id)

        await self.write(work)

    # Inside

    async def _all(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        return await self.read(lambda db: db.execute(sql, values).fetchall())

    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise LocalStorageFailed(self.path, "the store is closed")
        return self._db

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, OverflowError, UnicodeEncodeError) as error:
            # The last two: SQLite cannot hold what it was given.
            raise LocalStorageFailed(self.path, str(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self.path == ":memory:":
            return self._prepare(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
        Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # 0600 before SQLite opens it: the journal files take their mode from it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            return self._prepare(self._connect())
        except sqlite3.OperationalError:
            raise  # locked or no space: the data is well
        except sqlite3.DatabaseError:
            os.replace(self.path, self.path + ".damaged")
            for suffix in ("-wal", "-shm"):
                Path(self.path + suffix).unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            return self._prepare(self._connect())

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def _prepare(db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != CACHE_VERSION:
                drop = "".join(f"DROP TABLE IF EXISTS {name};" for name in _CACHED)
                db.executescript(f"BEGIN;{drop}{_SCHEMA}{_OWN_SCHEMA}PRAGMA user_version = {CACHE_VERSION};COMMIT;")
        except BaseException:
            db.close()
            raise
        return db
