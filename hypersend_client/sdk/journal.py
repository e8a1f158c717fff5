"""What this device was transferring: a small SQLite database that survives `kill -9`.

The server knows which chunks of an upload have arrived, and a download's own journal stands beside its `.part`
(`parts`), so what is kept here is what neither knows: which local file belongs to which upload, the
Idempotency-Key that makes a repeated init the same upload, which downloads are wanted, and the `client_id` of a
message whose files are still on their way. Accounts are (`server_id`, `user_id`): an address may change.

Several programs may share one journal; who is at a transfer holds its lock (`lock`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from hypersend_client.sdk.errors import LocalStorageFailed
from hypersend_client.sdk.tokens import try_lock
from hypersend_client.sdk.transfer_errors import TransferBusy

T = TypeVar("T")

LOCK_WAIT_S = 3.0
KEEP_DONE_S = 30 * 86400
_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
  id TEXT PRIMARY KEY, server_id TEXT NOT NULL, user_id TEXT NOT NULL,
  path BLOB NOT NULL,         -- as the system has it, which need not be text
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  job TEXT NOT NULL,          -- '' or what the upload is for: the same file may go to two chats
  body TEXT NOT NULL,         -- JSON of init, the same at each repeat
  key TEXT NOT NULL,          -- Idempotency-Key
  file_id TEXT NOT NULL,      -- '' before init was answered
  done INTEGER NOT NULL, noted_at INTEGER NOT NULL, -- seconds since 1970
  UNIQUE (server_id, user_id, path, job)
);
CREATE TABLE IF NOT EXISTS downloads (
  id TEXT PRIMARY KEY, server_id TEXT NOT NULL, user_id TEXT NOT NULL,
  file_id TEXT NOT NULL, target BLOB NOT NULL, -- the path it shall have
  UNIQUE (server_id, user_id, file_id, target)
);
CREATE TABLE IF NOT EXISTS sends (
  server_id TEXT NOT NULL, user_id TEXT NOT NULL, job TEXT NOT NULL, client_id TEXT NOT NULL,
  PRIMARY KEY (server_id, user_id, job)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS p2p ( -- transfers from person to person (`p2p_journal`)
  key TEXT PRIMARY KEY,       -- the offer's client_id where we send, the transfer's id where we receive
  server_id TEXT NOT NULL, user_id TEXT NOT NULL, role TEXT NOT NULL, chat_id TEXT NOT NULL,
  receiver_id TEXT NOT NULL,  -- '' nobody named
  path BLOB NOT NULL,         -- the local file, or the path that it shall have
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, -- of the local file
  transfer_id TEXT NOT NULL   -- '' before the offer was answered
);
CREATE TABLE IF NOT EXISTS p2p_keys ( -- of the other device of a transfer, as it was when both had accepted
  key TEXT PRIMARY KEY, other_key TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS p2p_names ( -- under which a file was offered
  key TEXT PRIMARY KEY, name TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS p2p_met ( -- devices with which a transfer was begun, for the safety numbers of a chat
  server_id TEXT NOT NULL, user_id TEXT NOT NULL, chat_id TEXT NOT NULL, other_id TEXT NOT NULL, key TEXT NOT NULL,
  name TEXT NOT NULL, met_at INTEGER NOT NULL, -- of the last transfer; milliseconds since 1970
  PRIMARY KEY (server_id, user_id, chat_id, other_id, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS p2p_endings ( -- over for this device, and the server has not heard it yet
  server_id TEXT NOT NULL, user_id TEXT NOT NULL, transfer_id TEXT NOT NULL,
  PRIMARY KEY (server_id, user_id, transfer_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS p2p_devices ( -- with which a transfer was finished
  server_id TEXT NOT NULL, user_id TEXT NOT NULL, other_id TEXT NOT NULL, key TEXT NOT NULL,
  PRIMARY KEY (server_id, user_id, other_id, key)
) WITHOUT ROWID;
"""
_UPLOAD = "id, path, size, mtime_ns, job, body, key, file_id, done"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells that a local file is still the same one. inode: 0 where it comes from the journal: some file
    systems number files anew at each mount.
    """

    size: int
    mtime_ns: int
    inode: int

    @staticmethod
    def of(status: os.stat_result) -> Identity:
        return Identity(status.st_size, status.st_mtime_ns, status.st_ino)

    def is_content_of(self, other: Identity) -> bool:
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


@dataclass(frozen=True, slots=True)
class UploadRow:
    id: str
    path: str
    identity: Identity
    job: str
    body: dict[str, Any]
    key: str
    file_id: str
    done: bool


@dataclass(frozen=True, slots=True)
class DownloadRow:
    id: str
    file_id: str
    target: str


class Journal:
    """path: of the database; it is made, with its folder. One thread of its own does the I/O."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hypersend journal")
        self._db: sqlite3.Connection | None = None
        self._is_closed = False

    async def close(self) -> None:
        def work() -> None:
            if self._db is not None:
                self._db.close()
                self._db = None

        if not self._is_closed:
            self._is_closed = True
            await asyncio.get_running_loop().run_in_executor(self._pool, work)
            self._pool.shutdown()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on the database, all of it or nothing. Raises: LocalStorageFailed."""
        return await self._do(work)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._db is None:
                self._db = self._open()
            with self._db:
                return work(self._db)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except (sqlite3.Error, OSError) as error:
            raise LocalStorageFailed(str(self.path), str(error)) from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=20, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        with db:  # whose message was sent, or will never be
            db.execute("DELETE FROM uploads WHERE done AND noted_at < ?", (int(time.time()) - KEEP_DONE_S,))
        return db

    # Uploads

    async def find_upload(self, account: tuple[str, str], path: str, job: str) -> UploadRow | None:
        return await self._do(
            lambda db: _upload(
                db.execute(
                    f"SELECT {_UPLOAD} FROM uploads WHERE server_id = ? AND user_id = ? AND path = ? AND job = ?",  # noqa: S608
                    (*account, os.fsencode(path), job),
                ).fetchone()
            )
        )

    async def upload(self, upload_id: str) -> UploadRow | None:
        sql = f"SELECT {_UPLOAD} FROM uploads WHERE id = ?"  # noqa: S608
        return await self._do(lambda db: _upload(db.execute(sql, (upload_id,)).fetchone()))

    async def uploads(self, account: tuple[str, str]) -> list[UploadRow]:
        rows = await self._do(
            lambda db: db.execute(
                f"SELECT {_UPLOAD} FROM uploads WHERE server_id = ? AND user_id = ? ORDER BY rowid",  # noqa: S608
                account,
            ).fetchall()
        )
        return [row for row in map(_upload, rows) if row is not None]

    async def add_upload(
        self, account: tuple[str, str], path: str, identity: Identity, job: str, body: dict[str, Any]
    ) -> UploadRow:
        """A new one in place of whatever there was for this path and job."""
        row = UploadRow(uuid.uuid4().hex, path, identity, job, body, uuid.uuid4().hex, "", False)
        await self._do(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?)",
                (
                    row.id,
                    *account,
                    os.fsencode(path),
                    identity.size,
                    identity.mtime_ns,
                    job,
                    json.dumps(body),
                    row.key,
                    int(time.time()),
                ),
            )
        )
        return row

    async def begin_again(self, row: UploadRow) -> UploadRow:
        """Another key, so that init makes another upload of the same file."""
        key = uuid.uuid4().hex
        await self._do(
            lambda db: db.execute("UPDATE uploads SET key = ?, file_id = '', done = 0 WHERE id = ?", (key, row.id))
        )
        return UploadRow(row.id, row.path, row.identity, row.job, row.body, key, "", False)

    async def note_upload(self, upload_id: str, file_id: str, *, done: bool) -> None:
        await self._do(
            lambda db: db.execute(
                "UPDATE uploads SET file_id = ?, done = ?, noted_at = ? WHERE id = ?",
                (file_id, done, int(time.time()), upload_id),
            )
        )

    async def drop_upload(self, upload_id: str) -> None:
        await self._do(lambda db: db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,)))
        await asyncio.to_thread(self._drop_lock, upload_id)

    # Downloads

    async def add_download(
        self, account: tuple[str, str], file_id: str, target: str, *, prefix: str = ""
    ) -> DownloadRow:
        """The one there is, or a new one, whose id begins with `prefix`."""

        def work(db: sqlite3.Connection) -> DownloadRow:
            where = (*account, file_id, os.fsencode(target))
            db.execute("INSERT OR IGNORE INTO downloads VALUES (?, ?, ?, ?, ?)", (prefix + uuid.uuid4().hex, *where))
            return _download(
                db.execute(
                    "SELECT id, file_id, target FROM downloads WHERE server_id = ? AND user_id = ? AND file_id = ?"
                    " AND target = ?",
                    where,
                ).fetchone()
            )

        return await self._do(work)

    async def downloads(self, account: tuple[str, str]) -> list[DownloadRow]:
        rows = await self._do(
            lambda db: db.execute(
                "SELECT id, file_id, target FROM downloads WHERE server_id = ? AND user_id = ? ORDER BY rowid", account
            ).fetchall()
        )
        return [_download(row) for row in rows]

    async def drop_download(self, download_id: str) -> None:
        await self._do(lambda db: db.execute("DELETE FROM downloads WHERE id = ?", (download_id,)))
        await asyncio.to_thread(self._drop_lock, download_id)

    # Messages whose files are on their way

    async def client_id(self, account: tuple[str, str], job: str) -> str:
        """The same for the same job until it is dropped."""

        def work(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO sends VALUES (?, ?, ?, ?)", (*account, job, uuid.uuid4().hex))
            found = db.execute(
                "SELECT client_id FROM sends WHERE server_id = ? AND user_id = ? AND job = ?", (*account, job)
            ).fetchone()
            return str(found[0])

        return await self._do(work)

    async def drop_job(self, account: tuple[str, str], job: str) -> None:
        """The message is sent: forget it and its uploads, both or neither."""

        def work(db: sqlite3.Connection) -> list[str]:
            db.execute("DELETE FROM sends WHERE server_id = ? AND user_id = ? AND job = ?", (*account, job))
            return [
                row[0]
                for row in db.execute(
                    "DELETE FROM uploads WHERE server_id = ? AND user_id = ? AND job = ? RETURNING id", (*account, job)
                ).fetchall()
            ]

        for upload_id in await self._do(work):
            await asyncio.to_thread(self._drop_lock, upload_id)

    async def forget(self, account: tuple[str, str]) -> None:
        """All of an account that signed out."""

        def work(db: sqlite3.Connection) -> None:
            for table in ("p2p_keys", "p2p_names"):
                db.execute(
                    f"DELETE FROM {table} WHERE key IN"  # noqa: S608
                    " (SELECT key FROM p2p WHERE server_id = ? AND user_id = ?)", account)
            for table in ("uploads", "downloads", "sends", "p2p", "p2p_devices", "p2p_met", "p2p_endings"):
                db.execute(f"DELETE FROM {table} WHERE server_id = ? AND user_id = ?", account)  # noqa: S608

        await self._do(work)

    # One program at a transfer

    @asynccontextmanager
    async def lock(self, transfer_id: str, path: str, wait_s: float = LOCK_WAIT_S) -> AsyncIterator[None]:
        """Held by the one who is at this transfer. The system gives it back when its holder dies.

        wait_s: for a holder that is about to end. Raises: TransferBusy naming `path`.
        """

        def open_() -> BinaryIO:
            place = self._lock_path(transfer_id)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return place.open("a+b")

        opening = asyncio.ensure_future(asyncio.to_thread(open_))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)  # the thread may have it open by now
            raise
        except OSError as error:
            raise LocalStorageFailed(str(self.path), error.strerror or str(error)) from error
        try:
            for _ in range(max(1, round(wait_s / 0.05))):
                if try_lock(file):
                    break
                await asyncio.sleep(0.05)
            else:
                raise TransferBusy(path)
            yield
        finally:
            file.close()

    def _lock_path(self, transfer_id: str) -> Path:
        """Some ids come from a server: they must not lead out of the folder."""
        name = "".join(c for c in transfer_id if c.isascii() and (c.isalnum() or c in "-_"))[:80]
        return self.path.with_name(f"{self.path.name}.locks") / name

    async def drop_lock(self, transfer_id: str) -> None:
        await asyncio.to_thread(self._drop_lock, transfer_id)

    def _drop_lock(self, transfer_id: str) -> None:
        try:
            self._lock_path(transfer_id).unlink(missing_ok=True)
        except OSError:
            pass  # an empty file that stays harms nobody


def _upload(row: tuple[Any, ...] | None) -> UploadRow | None:
    if row is None:
        return None
    upload_id, path, size, mtime_ns, job, body, key, file_id, done = row
    identity = Identity(size, mtime_ns, 0)
    return UploadRow(upload_id, os.fsdecode(path), identity, job, json.loads(body), key, file_id, bool(done))


def _download(row: tuple[str, str, bytes]) -> DownloadRow:
    download_id, file_id, target = row
    return DownloadRow(download_id, file_id, os.fsdecode(target))


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
