"""`hypersend-server backup` and `restore`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from hypersend_server.app import open_parts
from hypersend_server.backup import BackupReport, back_up, restore
from hypersend_server.clock import Ids, system_clock
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.keys import KEY_FILE
from hypersend_server.settings import Settings
from hypersend_storage.local import LocalStore


def add_to(commands: Any) -> None:
    parser = commands.add_parser("backup", help="copy database, key and files while the server runs")
    parser.add_argument("folder", metavar="DIR", type=Path, help="an empty or new folder")
    parser.add_argument("--files", choices=("link", "copy", "none"), default="copy",
                        help="link: hard links on the same disk, at once and without space; copy (default); none")
    json_flag(parser)
    parser.set_defaults(run=run_backup)
    parser = commands.add_parser("restore", help="make an empty DATA_ROOT what a backup was")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder that `backup` wrote")
    json_flag(parser)
    parser.set_defaults(run=run_restore)


def _takes_sqlite(settings: Settings, console: Console, instead: str) -> bool:
    if settings.mongodb_uri:
        console.problem(f"MONGODB_URI is set, and this takes SQLite alone: {instead} (docs/mongodb.md)")
    return not settings.mongodb_uri


def run_backup(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    if not _takes_sqlite(settings, console, "copy the database with `mongodump --oplog`, and DATA_ROOT/files"):
        return 1

    async def work() -> BackupReport:
        async with open_parts(settings, must_exist=True) as parts:
            store = LocalStore(settings.data_root)
            return await back_up(
                arguments.folder, data_root=settings.data_root, path_of=store.path, records=parts.metadata.server,
                mode=arguments.files, holder=Ids()(), clock=system_clock)

    report = asyncio.run(work())
    console.say(f"Backed up {report.files} files ({shown_size(report.bytes)}) to {arguments.folder}")
    if report.elsewhere:
        console.say(f"{report.elsewhere} files are on an object store and not in this backup")
    for file_id in report.missing:
        console.problem(f"file {file_id} is in the database, but its bytes are not on the disk as they should be")
    console.result(report)
    return 1 if report.missing else 0


def run_restore(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    if not _takes_sqlite(settings, console, "use `mongorestore --oplogReplay`, then `migrate-metadata --new-epoch`"):
        return 1
    report = restore(
        arguments.folder, data_root=settings.data_root, path_of=LocalStore(settings.data_root).path,
        with_key=not settings.secret_key, new_epoch=Ids()(), now_ms=system_clock())
    console.say(f"Restored {report.files} files ({shown_size(report.bytes)}) into {settings.data_root}; "
                f"{report.sessions_ended} sessions ended, {report.uploads_expired} unfinished uploads expired")
    if report.elsewhere or settings.storage_backend == "s3":
        console.note(
            f"{report.elsewhere} files are on an object store. While the server that this is a copy of goes on with "
            "the same bucket, what this copy clears away is gone for both: give it a copy of the bucket, or set "
            "BACKGROUND_JOBS=off, and delete nothing with it (docs/backup.md)")
    if not settings.secret_key and not (settings.data_root / KEY_FILE).exists():
        console.note("the backup holds no secret.key: set the SECRET_KEY of the server that it was made of, or a new "
                     "key is made, which ends the links that were given out")
    for file_id in report.missing:
        console.problem(f"file {file_id} is not in the backup: put its bytes back, then run `hypersend-server verify`")
    console.result(report)
    return 1 if report.missing else 0
