"""SQLite for one server process and the commands beside it: one writer thread with group commit, a few readers.

Every write is a job, a plain function of a `Tx`. Jobs that wait together are committed together: one
`BEGIN IMMEDIATE`, a SAVEPOINT around each job, one fsync. A job's future resolves after the commit, so what was
acknowledged is durable (`synchronous=FULL`); jobs that say they can do without it skip the fsync. IMMEDIATE, because
a deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT when another process wrote
in between.

Reads run in their own threads on a snapshot each, so a slow one delays nobody's write.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from hypersend_server.errors import HyperSendError

T = TypeVar("T")
log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 15_000
MAX_BATCH = 256  # jobs a commit; bounds how long the first of them waits for its acknowledgement


class Tx:
    """What a write job sees: the connection, and the numbering of changes.

    A job either returns, and all it wrote is kept, or raises, and nothing of it is.
    """

    __slots__ = ("_change", "_dirty", "connection", "execute", "executemany")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self._change = 0
        self._dirty = False

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")
        # A command beside the server may have moved the counter since the last batch.
        self._change = self.execute("SELECT value FROM meta WHERE key = 'change'").fetchone()[0]
        self._dirty = False

    def stamp(self) -> int:
        """The number of one more change in the database, for `changed`."""
        self._change += 1
        self._dirty = True
        return self._change

    def commit(self) -> None:
        if self._dirty:
            self.execute("UPDATE meta SET value = ? WHERE key = 'change'", (self._change,))
        self.execute("COMMIT")


ReadTx = sqlite3.Connection
"""What a read job sees: a connection inside one snapshot."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection as every part of the server wants it. Raises: sqlite3.Error."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False,
        cached_statements=512,
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -8000")
    # Pages of the log before it is written back: at the default of 1,000 a busy server did so several times a second.
    connection.execute("PRAGMA wal_autocheckpoint = 8192")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def translate(error: sqlite3.Error) -> HyperSendError:
    """A driver's error as the client may see it; the text stays in the log."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return HyperSendError("storage_full", "The server's disk is full.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return HyperSendError("metadata_unavailable", "The server's database is damaged.")
    return HyperSendError("metadata_unavailable")


class Engine:
    """Owns the threads and connections over one database file.

    make_room: called in the writer when the disk is full; True where it is worth trying the same again.
    """

    def __init__(self, path: Path, *, readers: int = 2, make_room: Callable[[], bool] = lambda: False) -> None:
        self._path = path
        self._make_room = make_room
        self._queue: deque[tuple[Callable[[Tx], Any], asyncio.Future[Any], bool]] = deque()
        self._is_synced = True  # what `PRAGMA synchronous` of the writer stands at
        self._wake = threading.Condition()
        self._wake_due = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-read")
        self._reader_slots: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Start the writer; the schema must be in place (see `migrate`). Raises: sqlite3.Error."""
        self._loop = asyncio.get_running_loop()
        connection = await asyncio.to_thread(connect, self._path)
        self._thread = threading.Thread(target=self._run, args=(connection,), name="sqlite-write", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish every queued job, then let go of the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._wake:
                self._closing = True
                self._wake.notify()
            await asyncio.to_thread(thread.join)
        self._readers.shutdown(wait=True)
        for connection in self._reader_slots:
            connection.close()
        self._reader_slots.clear()

    @property
    def waiting(self) -> int:
        """Write jobs in the queue, for metrics."""
        return len(self._queue)

    def write(self, job: Callable[[Tx], T], *, durable: bool = True) -> asyncio.Future[T]:
        """Run `job` in the writer thread; the answer comes after its commit.

        durable: False where a crash of the machine (not of this process) may undo it; it is kept from the next
            durable commit on, and never without what was committed before it.
        Raises (from the future): what the job raised, nothing of it being kept; HyperSendError
            `storage_full` or `metadata_unavailable` where the database itself failed.
        """
        if self._thread is None or self._loop is None:
            raise HyperSendError("metadata_unavailable")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((job, future, durable))
        if not self._wake_due:
            # Once for all that this turn of the event loop queues: it is committed together.
            self._wake_due = True
            self._loop.call_soon(self._wake_writer)
        return future

    def _wake_writer(self) -> None:
        self._wake_due = False
        with self._wake:
            self._wake.notify()

    async def read(self, job: Callable[[ReadTx], T]) -> T:
        """Run `job` on a snapshot of its own. Raises: what the job raises; `metadata_unavailable`."""
        if self._loop is None:
            raise HyperSendError("metadata_unavailable")
        return await self._loop.run_in_executor(self._readers, self._read, job)

    def _read(self, job: Callable[[ReadTx], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect(self._path, read_only=True)
                self._reader_slots.append(connection)
            connection.execute("BEGIN")
            try:
                return job(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.error("reading the database failed: %s", error)
            raise translate(error) from error

    def _run(self, connection: sqlite3.Connection) -> None:
        tx = Tx(connection)
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    break
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            results = self._commit(tx, batch)
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(_resolve, results)
            except RuntimeError:  # the loop is gone: nobody waits any more
                break
        connection.close()

    def _commit(
        self, tx: Tx, batch: list[tuple[Callable[[Tx], Any], asyncio.Future[Any], bool]]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        results: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            needs_sync = any(durable for _, _, durable in batch)
            if needs_sync != self._is_synced:
                tx.execute(f"PRAGMA synchronous = {'FULL' if needs_sync else 'NORMAL'}")
                self._is_synced = needs_sync
            tx.begin()
            for job, future, _ in batch:
                tx.execute("SAVEPOINT job")
                try:
                    answer = job(tx)
                except sqlite3.OperationalError:
                    raise  # the disk or the file, not the job: the whole batch fails together
                except Exception as error:
                    tx.execute("ROLLBACK TO job")
                    results.append((future, None, error))
                else:
                    results.append((future, answer, None))
                tx.execute("RELEASE job")
            tx.commit()
        except sqlite3.Error as error:
            log.error("writing the database failed: %s", error)
            if tx.connection.in_transaction:
                tx.execute("ROLLBACK")
            failure = translate(error)
            if failure.code == "storage_full" and self._make_room():
                return self._commit(tx, batch)
            return [(future, None, failure) for _, future, _ in batch]
        return results


def _resolve(results: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, answer, error in results:
        if future.done():  # cancelled by its caller; the commit stands
            continue
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
