"""The embedded metadata backend: SQLite in one file under DATA_ROOT."""

from __future__ import annotations

import asyncio
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
from hypersend_server.metadata.sqlite.schema import migrate
from hypersend_server.metadata.sqlite.server import SqliteServerRecords

FILE_NAME = "hypersend.sqlite3"


class SqliteMetadata:
    """`metadata.base.Metadata` over one SQLite file."""

    def __init__(self, path: Path, *, new_id: Callable[[], str] | None = None) -> None:
        new_id = new_id or Ids()
        self.path = path
        self.engine = Engine(path)
        self.server = SqliteServerRecords(self.engine, new_id)
        self.accounts = SqliteAccounts(self.engine)
        self.chats = SqliteChats(self.engine)
        self.files = SqliteFiles(self.engine)

    async def open(self) -> None:
        await asyncio.to_thread(self._prepare)
        await self.engine.open()

    def _prepare(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with closing(connect(self.path)) as connection:
                self.path.chmod(0o600)
                migrate(connection)
        except (sqlite3.Error, OSError) as error:
            raise MetadataError(f"the database {self.path} cannot be opened: {error}") from error

    async def close(self) -> None:
        await self.engine.close()

    @property
    def waiting(self) -> int:
        return self.engine.waiting
