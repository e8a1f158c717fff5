"""`Files` on MongoDB."""

from __future__ import annotations

from hypersend_server.metadata.mongo.engine import Engine
from hypersend_server.metadata.mongo.files_receipts import MongoReceipts
from hypersend_server.metadata.mongo.files_shelf import MongoShelf
from hypersend_server.metadata.mongo.files_upkeep import MongoFileUpkeep
from hypersend_server.metadata.mongo.files_uploads import MongoUploads


class MongoFiles(MongoUploads, MongoReceipts, MongoShelf, MongoFileUpkeep):
    """Each part implements its section of `metadata.files.Files`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
