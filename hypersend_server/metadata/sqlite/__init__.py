"""The embedded metadata backend: SQLite in one file under DATA_ROOT."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hypersend_server.clock import Ids
from hypersend_server.metadata.errors import MetadataError
from hypersend_server.metadata.sqlite.accounts import SqliteAccounts
from hypersend_server.metadata.sqlite.chats import SqliteChats
from hypersend_server.metadata.sqlite.engine import Engine, connect
from hypersend_server.metadata.sqlite.files import SqliteFiles
from hypersend_server.metadata.sqlite.releases import SqliteReleases
from hypersend_server.metadata.sqlite.reserve import DiskReserve
from hypersend_server.metadata.sqlite.schema import migrate
from hypersend_server.metadata.sqlite.server import SqliteServerRecords
from hypersend_server.metadata.sqlite.transfers import SqliteTransfers

FILE_NAME = "hypersend.sqlite3"
WATCH_S = 5.0
log = logging.getLogger(__name__)


class SqliteMetadata:
    """`metadata.base.Metadata` over one SQLite file."""

    def __init__(self, path: Path, *, new_id: Callable[[], str] | None = None) -> None:
        new_id = new_id or Ids()
        self.path = path
        self.reserve = DiskReserve(path.parent)
        self.engine = Engine(path, make_room=self.reserve.release)
        self.server = SqliteServerRecords(self.engine, new_id)
        self.accounts = SqliteAccounts(self.engine)
        self.chats = SqliteChats(self.engine)
        self.files = SqliteFiles(self.engine)
        self.releases = SqliteReleases(self.engine)
        self.transfers = SqliteTransfers(self.engine)
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await asyncio.to_thread(self._prepare)
        await self.engine.open()
        self._watch = asyncio.create_task(self._watch_room())

    def _prepare(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self.reserve.check()
            try:
                self._migrate()
            except sqlite3.OperationalError:
                if not self.reserve.release():  # on a full disk the log cannot even be opened
                    raise
                self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise MetadataError(f"the database {self.path} cannot be opened: {error}") from error

    def _migrate(self) -> None:
        with closing(connect(self.path)) as connection:
            self.path.chmod(0o600)
            migrate(connection)

    async def _watch_room(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            await asyncio.to_thread(self._look_at_room)

    def _look_at_room(self) -> None:
        try:
            self.reserve.check()
        except OSError as error:
            log.error("looking at the disk of %s: %s", self.path.parent, error)

    @property
    def has_room(self) -> bool:
        if self.reserve.is_low:
            self._look_at_room()  # whoever made room need not wait for the watch
        return not self.reserve.is_low

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        await self.engine.close()

    def on_unheard(self, listener: Callable[[], None]) -> None:
        """Never called: who writes waits until it is known what became of it."""

    @property
    def waiting(self) -> int:
        return self.engine.waiting
