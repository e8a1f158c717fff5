"""`Chats` on MongoDB, put together from its parts."""

from __future__ import annotations

from hypersend_server.metadata.mongo.chats_append import MongoAppending
from hypersend_server.metadata.mongo.chats_groups import MongoGroups
from hypersend_server.metadata.mongo.chats_marks import MongoMarks
from hypersend_server.metadata.mongo.chats_members import MongoMembers
from hypersend_server.metadata.mongo.chats_messages import MongoMessages
from hypersend_server.metadata.mongo.chats_search import MongoSearch
from hypersend_server.metadata.mongo.chats_sync import MongoSync
from hypersend_server.metadata.mongo.chats_upkeep import MongoUpkeep
from hypersend_server.metadata.mongo.engine import Engine


class MongoChats(
    MongoGroups, MongoMembers, MongoAppending, MongoMessages, MongoMarks, MongoSync, MongoSearch, MongoUpkeep
):
    """`metadata.chats.Chats` over one engine.

    longest_transaction_ms: after so long a transaction is committed or ended by the server, whatever the clocks say.
    """

    def __init__(self, engine: Engine, longest_transaction_ms: int) -> None:
        self._engine = engine
        self.longest_transaction_ms = longest_transaction_ms
