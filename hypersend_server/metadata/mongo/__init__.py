"""The metadata backend for any number of server processes: MongoDB, as a replica set of one member or more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

import pymongo
from pymongo.errors import ConfigurationError, ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from hypersend_server.clock import Ids
from hypersend_server.metadata.errors import MetadataError, MetadataTooNew
from hypersend_server.metadata.mongo.accounts import MongoAccounts
from hypersend_server.metadata.mongo.chats import MongoChats
from hypersend_server.metadata.mongo.driver import Driver, close_client, database_name, database_of, make_client
from hypersend_server.metadata.mongo.engine import Engine
from hypersend_server.metadata.mongo.files import MongoFiles
from hypersend_server.metadata.mongo.indexes import SCHEMA_VERSION, ensure
from hypersend_server.metadata.mongo.releases import MongoReleases
from hypersend_server.metadata.mongo.server import MongoServerRecords
from hypersend_server.metadata.mongo.transfers import MongoTransfers

OLDEST = (5, 0)  # the first with snapshots that outlive a failover
WAIT_FOR_S = 60.0
CLOCKS_MS = 5_000  # by how much the clocks of a replica set's members may differ
UNKNOWN_LIFETIME_S = 60  # MongoDB's own default of transactionLifetimeLimitSeconds
AUTHENTICATION_FAILED, UNAUTHORIZED, ATLAS_ERROR = 18, 13, 8000
log = logging.getLogger(__name__)


class MongoMetadata:
    """`metadata.base.Metadata` over one database, which the URI names (`hypersend` where it names none)."""

    def __init__(
        self, uri: str, *, new_id: Callable[[], str] | None = None, driver: Driver = "motor",
        wait_s: float = WAIT_FOR_S, must_exist: bool = False,
    ) -> None:
        """wait_s: for a MongoDB that does not answer. must_exist: `open` refuses a database that is not a server's.

        Raises: MetadataError where the URI cannot be understood.
        """
        self._wait_s = wait_s
        self._must_exist = must_exist
        try:
            parsed = pymongo.uri_parser.parse_uri(uri, validate=True, normalize=False)
            self.address = ",".join(f"{host}:{port}" for host, port in parsed["nodelist"])
            self.database = database_name(uri)
            self._client = make_client(uri, driver)
        except (ConfigurationError, ValueError, TypeError) as error:
            raise MetadataError(
                "MONGODB_URI is no address such as mongodb://user:password@host:27017/hypersend?replicaSet=rs0: "
                + without_password(str(error), uri)) from None
        self.db: Any = database_of(self._client, self.database)
        self.engine = Engine(self._client, self.db)
        self.server = MongoServerRecords(self.engine, new_id or Ids())
        self.accounts = MongoAccounts(self.engine)
        self.chats = MongoChats(self.engine, UNKNOWN_LIFETIME_S * 1000 + CLOCKS_MS)
        self.files = MongoFiles(self.engine)
        self.releases = MongoReleases(self.engine)
        self.transfers = MongoTransfers(self.engine)

    async def open(self) -> None:
        try:
            hello = await self._reach()
            await self._check(hello)
            await self._prepare()
        except MetadataError:
            await close_client(self._client)
            raise
        except PyMongoError as error:
            await close_client(self._client)
            raise MetadataError(f"MONGODB_URI: preparing {self._where} failed: {_line(error)}") from None

    @property
    def _where(self) -> str:
        return f"the database {self.database} of MongoDB at {self.address}"

    async def _reach(self) -> dict[str, Any]:
        """Wait for a primary. Raises: MetadataError."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._wait_s
        while True:
            try:
                await self.db.command("ping")  # signs in, where the URI has a name
                hello: dict[str, Any] = await self.db.command("hello")
                return hello
            except OperationFailure as error:
                if error.code in (AUTHENTICATION_FAILED, ATLAS_ERROR):
                    raise MetadataError(
                        f"MONGODB_URI: MongoDB at {self.address} refuses the name or the password") from None
                raise
            except ConnectionFailure as error:
                if clock() >= until:
                    raise MetadataError(
                        f"MONGODB_URI: MongoDB at {self.address} did not answer within {self._wait_s:.0f} s: "
                        f"{_line(error)}") from None
                log.warning("waiting for MongoDB at %s: %s", self.address, _line(error))
                await asyncio.sleep(min(1.0, self._wait_s / 10))

    async def _check(self, hello: dict[str, Any]) -> None:
        version = str((await self.db.command("buildInfo"))["version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise MetadataError(
                f"MONGODB_URI: MongoDB at {self.address} is version {version}; it must be "
                f"{OLDEST[0]}.{OLDEST[1]} or later")
        if not hello.get("setName") and hello.get("msg") != "isdbgrid":
            raise MetadataError(
                f"MONGODB_URI: MongoDB at {self.address} is no replica set, so it has no transactions: start it with "
                "--replSet rs0 and run rs.initiate() once; one member will do")
        lifetime_s = await self._transaction_lifetime_s()
        if lifetime_s > 5:
            log.warning(
                "MongoDB lets a transaction live for %d s: set transactionLifetimeLimitSeconds to 5, so that a killed "
                "process does not hold up its chats for longer", lifetime_s)
        self.chats.longest_transaction_ms = lifetime_s * 1000 + CLOCKS_MS

    async def _transaction_lifetime_s(self) -> int:
        try:
            answer = await self._client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})
        except OperationFailure:  # it takes a right that a user of one database does not have
            return UNKNOWN_LIFETIME_S
        return int(answer.get("transactionLifetimeLimitSeconds", UNKNOWN_LIFETIME_S))

    async def _prepare(self) -> None:
        schema = await self.db["meta"].find_one({"_id": "schema"})
        if schema is None and self._must_exist:
            raise MetadataError(f"there is no HyperSend server in {self._where} (MONGODB_URI)")
        if schema is not None and schema["value"] > SCHEMA_VERSION:
            raise MetadataTooNew(schema["value"], SCHEMA_VERSION)
        await ensure(self.db)
        for doc in ({"_id": "schema", "value": SCHEMA_VERSION}, {"_id": "accounts", "value": 0, "changed": 0}):
            try:
                await self.db["meta"].update_one({"_id": doc["_id"]}, {"$setOnInsert": doc}, upsert=True)
            except DuplicateKeyError:  # made by another process at the same moment
                continue

    async def is_served(self, now_ms: int) -> bool:
        """Whether a server process holds a lease of any kind."""
        return await self.db["leases"].find_one({"expires_at": {"$gt": now_ms}}) is not None

    async def close(self) -> None:
        await self.engine.close()
        await close_client(self._client)

    @property
    def waiting(self) -> int:
        return self.engine.waiting

    def on_unheard(self, listener: Callable[[], None]) -> None:
        self.engine.on_unheard = listener

    @property
    def has_room(self) -> bool:
        return True  # a full disk of MongoDB's is answered by itself, with errors


def _line(error: Exception) -> str:
    """The first sentence of a driver's error, which goes on with the state of each server."""
    return " ".join(str(error).split(", Timeout:")[0].split())[:300]


def without_password(text: str, uri: str) -> str:
    """A driver's text, unless it quotes what stands between the name and the host."""
    secret = uri.partition("://")[2].rpartition("@")[0]
    parts = {part for part in (secret, secret.partition(":")[2], unquote_plus(secret.partition(":")[2])) if part}
    return "its parts cannot be told apart" if any(part in text for part in parts) else " ".join(text.split())[:300]
