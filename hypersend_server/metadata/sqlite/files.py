"""`Files` on SQLite."""

from __future__ import annotations

from hypersend_server.metadata.sqlite.engine import Engine
from hypersend_server.metadata.sqlite.files_receipts import SqliteReceipts
from hypersend_server.metadata.sqlite.files_shelf import SqliteShelf
from hypersend_server.metadata.sqlite.files_upkeep import SqliteFileUpkeep
from hypersend_server.metadata.sqlite.files_uploads import SqliteUploads


class SqliteFiles(SqliteUploads, SqliteReceipts, SqliteShelf, SqliteFileUpkeep):
    """Each part implements its section of `metadata.files.Files`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
