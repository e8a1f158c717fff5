"""`Chats` on SQLite, put together from its parts."""

from __future__ import annotations

from hypersend_server.metadata.sqlite.chats_groups import SqliteGroups
from hypersend_server.metadata.sqlite.chats_marks import SqliteMarks
from hypersend_server.metadata.sqlite.chats_members import SqliteMembers
from hypersend_server.metadata.sqlite.chats_messages import SqliteMessages
from hypersend_server.metadata.sqlite.chats_search import SqliteSearch
from hypersend_server.metadata.sqlite.chats_sync import SqliteSync
from hypersend_server.metadata.sqlite.chats_upkeep import SqliteUpkeep
from hypersend_server.metadata.sqlite.engine import Engine


class SqliteChats(SqliteGroups, SqliteMembers, SqliteMessages, SqliteMarks, SqliteSync, SqliteSearch, SqliteUpkeep):
    """`metadata.chats.Chats` over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
