"""MongoDB: reachable, a replica set, its version, how long transactions live, indexes, clock, latency."""

from __future__ import annotations

import time
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from hypersend_server.doctor.findings import Area, shown_ms
from hypersend_server.metadata.mongo import OLDEST, without_password
from hypersend_server.metadata.mongo.driver import close_client, database_name, database_of, make_client
from hypersend_server.metadata.mongo.indexes import INDEXES, SCHEMA_VERSION, ensure

SLOW_S = 0.1
LIFETIME_S = 5
SKEW_S = 2.0
NOT_INITIATED = "In the shell, once:\n    rs.initiate()\nafter a start with --replSet rs0; one member will do."


async def check(uri: str, *, fix: bool, area: Area) -> str:
    """Returns: the server's id, '' where there is none to be read."""
    try:
        client = make_client(uri, "motor")
    except (PyMongoError, ValueError, TypeError) as error:
        area.problem(f"MONGODB_URI is no address: {without_password(str(error), uri)}",
                     "MONGODB_URI=mongodb://user:password@host:27017/hypersend?replicaSet=rs0")
        return ""
    try:
        return await _check(client, database_of(client, database_name(uri)), fix=fix, area=area)
    except PyMongoError as error:
        text = without_password(str(error).split(", Timeout:")[0], uri)
        area.problem(f"MongoDB cannot be used: {text}",
                     "Look at MONGODB_URI (name, password, authSource), at the firewall and at the member's log.")
        return ""
    finally:
        await close_client(client)


async def _check(client: Any, db: Any, *, fix: bool, area: Area) -> str:
    """Raises: PyMongoError."""
    await db.command("ping")
    began = time.monotonic()
    hello = await db.command("hello")
    took = time.monotonic() - began
    version = str((await db.command("buildInfo"))["version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        area.problem(f"MongoDB is {version}", f"Upgrade to {OLDEST[0]}.{OLDEST[1]} or later.")
    if not hello.get("setName") and hello.get("msg") != "isdbgrid":
        area.problem("MongoDB is no replica set, so it has no transactions", NOT_INITIATED)
    else:
        area.ok(f"MongoDB {version}, a replica set")
    if took > SLOW_S:
        area.warn(f"MongoDB takes {shown_ms(took)} to answer", "Run it near the server: a message asks several times.")
    else:
        area.ok(f"MongoDB answers within {shown_ms(took)}")
    if (there := hello.get("localTime")) is not None:
        skew = abs(there.timestamp() - time.time())
        if skew > SKEW_S + took:
            area.warn(f"MongoDB's clock differs from this machine's by {skew:.0f} s", "timedatectl set-ntp true")
    await _check_lifetime(client, fix=fix, area=area)
    await _check_indexes(db, fix=fix, area=area)
    schema = await db["meta"].find_one({"_id": "schema"})
    if schema is None:
        area.warn("there is no HyperSend server in this database yet", "The first `hypersend-server serve` makes it.")
    elif schema["value"] > SCHEMA_VERSION:
        area.problem(f"the database has schema version {schema['value']}, this program knows up to {SCHEMA_VERSION}",
                     "Start the newer program that wrote it, or restore a backup from before the upgrade.")
    identity = await db["meta"].find_one({"_id": "server_id"})
    return str(identity["value"]) if identity else ""


async def _check_lifetime(client: Any, *, fix: bool, area: Area) -> None:
    name = "transactionLifetimeLimitSeconds"
    try:
        seconds = int((await client.admin.command({"getParameter": 1, name: 1}))[name])
    except (OperationFailure, KeyError):
        return  # it takes a right that a user of one database does not have
    if seconds <= LIFETIME_S:
        area.ok(f"a transaction lives for {seconds} s at most")
        return
    if fix:
        try:
            await client.admin.command({"setParameter": 1, name: LIFETIME_S})
        except OperationFailure:
            pass
        else:
            area.mended(f"{name} is {LIFETIME_S} until MongoDB is started again; keep it with --setParameter")
            return
    area.warn(f"a killed process holds up its chats for {seconds} s ({name})",
              f"mongod --setParameter {name}={LIFETIME_S}")


async def _check_indexes(db: Any, *, fix: bool, area: Area) -> None:
    there = {name: set(await db[name].index_information())
             for name in await db.list_collection_names() if not name.startswith("system.")}
    if not there:
        return
    missing = [f"{index.collection}.{index.model().document['name']}" for index in INDEXES
               if index.model().document["name"] not in there.get(index.collection, set())]
    if not missing:
        area.ok(f"all {len(INDEXES)} indexes are there")
    elif fix:
        await ensure(db)
        area.mended(f"the indexes {', '.join(missing)} were made again")
    else:
        area.problem(f"the indexes {', '.join(missing)} are missing", "hypersend-server doctor --fix (or a start)")
