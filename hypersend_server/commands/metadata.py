"""`hypersend-server migrate-metadata`: from SQLite to MongoDB and back."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypersend_server.clock import Ids, system_clock
from hypersend_server.commands.console import Console, json_flag
from hypersend_server.keys import KEY_FILE, AlreadyServing, lock_data_root
from hypersend_server.metadata.backend import make_metadata
from hypersend_server.metadata.errors import MetadataError
from hypersend_server.metadata.sqlite import FILE_NAME
from hypersend_server.metadata.sqlite.port import SqlitePort
from hypersend_server.metadata.transport import Moved, OtherData, Port, carry
from hypersend_server.settings import Settings

MONGODB = ("mongodb://", "mongodb+srv://")


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "migrate-metadata", help="move users, chats and records of files to another database; stop the server first")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--to", metavar="URI",
        help="mongodb://…, or @FILE that holds the address, or `sqlite` for the one in DATA_ROOT, or its path")
    what.add_argument(
        "--new-epoch", action="store_true",
        help="move nothing: after a restore of MongoDB's own, let every client load its chats anew")
    json_flag(parser)
    parser.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    if arguments.new_epoch:
        epoch = asyncio.run(_renew(settings))
        console.say("Start the servers: every client loads its chats anew.")
        console.result({"epoch": epoch})
        return 0
    target: str = arguments.to
    if target.startswith("@"):
        target = Path(target[1:]).read_text().strip()
    try:
        report = asyncio.run(_work(settings, target, console))
    except (AlreadyServing, OtherData) as error:
        console.problem(str(error))
        return 1
    console.say(f"{sum(report.records.values())} records moved from {report.source} to {report.target}")
    for name in report.differ:
        console.problem(f"{name} differ at both ends: is a server running? Stop it and run this again")
    if report.complete:
        console.say(_what_next(settings, target))
    console.result(report)
    return 0 if report.complete else 1


def _what_next(settings: Settings, target: str) -> str:
    if not target.startswith(MONGODB):
        return "Unset MONGODB_URI and start the server."
    key = "" if settings.secret_key else (
        f" SECRET_KEY must then be set, too: take what {settings.data_root / KEY_FILE} holds, "
        "and nobody has to sign in again.")
    return f"Set MONGODB_URI to the new address and start the server.{key}"


async def _renew(settings: Settings) -> str:
    metadata = make_metadata(settings.mongodb_uri, settings.data_root, must_exist=True)
    await metadata.open()
    try:
        return (await metadata.server.renew_epoch()).epoch
    finally:
        await metadata.close()


async def _work(settings: Settings, target: str, console: Console) -> Moved:
    source_uri, target_uri = settings.mongodb_uri, target if target.startswith(MONGODB) else ""
    source_path = settings.data_root / FILE_NAME
    target_path = source_path if target == "sqlite" else Path(target)
    if target_path.is_dir():
        target_path /= FILE_NAME
    if source_uri == target_uri and (source_uri or source_path.resolve() == target_path.resolve()):
        raise OtherData("both ends are the same database")
    async with (
        _port(source_uri, source_path, must_exist=True) as (source, from_what, server_id),
        _port(target_uri, target_path) as (to, to_what, _),
    ):
        report = Moved(source=from_what, target=to_what)
        await carry(source, to, report, server_id=server_id, epoch=Ids()(), tell=console.note)
        return report


@asynccontextmanager
async def _port(uri: str, path: Path, *, must_exist: bool = False) -> AsyncIterator[tuple[Port, str, str]]:
    """(an end, what to call it, the id of the server that it is; '' where it is none yet).

    Raises: MetadataError, AlreadyServing.
    """
    if not uri:
        lock = lock_data_root(path.parent)
        try:
            if must_exist:
                metadata = make_metadata("", path.parent, must_exist=True)
                await metadata.open()
                server_id = (await metadata.server.identity()).server_id
                await metadata.close()
            port = SqlitePort(path)
            try:
                yield port, str(path), server_id if must_exist else ""
            finally:
                port.close()
        finally:
            os.close(lock)
        return
    metadata = make_metadata(uri, path.parent, must_exist=must_exist)
    from hypersend_server.metadata.mongo import MongoMetadata
    from hypersend_server.metadata.mongo.port import MongoPort

    assert isinstance(metadata, MongoMetadata)
    await metadata.open()
    try:
        if await metadata.is_served(system_clock()):
            raise MetadataError(
                f"a server is running over the database {metadata.database} of MongoDB at {metadata.address}: stop it "
                "first (one that was killed counts for half a minute)")
        server_id = (await metadata.server.identity()).server_id if must_exist else ""
        yield MongoPort(metadata), f"the database {metadata.database} at {metadata.address}", server_id
    finally:
        await metadata.close()
