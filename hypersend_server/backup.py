"""Backing up and restoring a server on SQLite and disk.

A backup is a folder:
    backup.json          what it is: versions, when, of which server, how many files
    hypersend.sqlite3    the database as of one moment
    secret.key           where the server made its own (mode 0600)
    files.jsonl          one line a file: id, storage, location, size, checksum
    files/…              the bytes, linked or copied, unless `--files none`

While it runs, a lease in the database keeps deleted files' bytes in place, so that every file of the copied
database is there to be copied.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from hypersend_server import __version__
from hypersend_server.clock import Clock, rfc3339
from hypersend_server.keys import KEY_FILE, UnfitKey, kept_secret_key
from hypersend_server.metadata.server import ServerRecords
from hypersend_server.metadata.sqlite import FILE_NAME
from hypersend_server.metadata.sqlite.schema import migrations, version_of
from hypersend_server.metadata.sqlite.snapshot import (
    ListedFile,
    after_restore,
    complete_files,
    identity,
    snapshot,
)

FileMode = Literal["link", "copy", "none"]
LEASE = "backup"
LEASE_MS = 60_000
LAST_BACKUP = "last-backup"  # the mark that says when it was


class BackupError(Exception):
    """The text tells the operator what is wrong; nothing was changed, or what was begun was removed."""


class FileLine(msgspec.Struct, frozen=True):
    """A line of files.jsonl. checksum: 64 hex digits, SHA-256 over the digests of its chunks of `chunk_size`."""

    id: str
    backend: str
    location: str
    size: int
    chunk_size: int
    checksum: str


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """backup.json, and what the command prints. elsewhere: files on another store, whose bytes are not here."""

    created_at: str
    version: str
    schema: int
    server_id: str
    epoch: str
    file_mode: FileMode
    files: int
    bytes: int
    elsewhere: int
    missing: list[str]


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """missing: ids of files that the database knows and the folder does not have whole. elsewhere: files on another
    store, whose bytes are not in a backup."""

    server_id: str
    epoch: str
    files: int
    bytes: int
    sessions_ended: int
    uploads_expired: int
    missing: list[str]
    elsewhere: int


async def back_up(
    target: Path, *, data_root: Path, path_of: Callable[[str], Path], records: ServerRecords, mode: FileMode,
    holder: str, clock: Clock,
) -> BackupReport:
    """Write a backup into the folder `target`, which must be empty or absent.

    path_of: location → path of the bytes of a local file. holder: names this run in the lease.
    Raises: BackupError, OSError, sqlite3.Error.
    """
    await asyncio.to_thread(_make_empty, target, data_root)
    if not await records.take_lease(LEASE, holder, clock(), LEASE_MS):
        raise BackupError("another backup is running")

    async def keep_lease() -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 3000)
            await records.take_lease(LEASE, holder, clock(), LEASE_MS)

    keeper = asyncio.create_task(keep_lease())
    try:
        report = await asyncio.to_thread(_write, target, data_root, path_of, mode, clock())
        await records.set_mark(LAST_BACKUP, report.created_at)
        return report
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await records.release_lease(LEASE, holder)


def _make_empty(target: Path, data_root: Path) -> None:
    if target.resolve().is_relative_to(data_root.resolve()):
        raise BackupError(f"{target} is inside DATA_ROOT ({data_root}): a disk that dies takes both, and housekeeping "
                          "removes what it does not know there. Name a folder elsewhere, best on another disk.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is not an empty folder")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(
    target: Path, data_root: Path, path_of: Callable[[str], Path], mode: FileMode, now_ms: int
) -> BackupReport:
    database = target / FILE_NAME
    snapshot(data_root / FILE_NAME, database)
    if (data_root / KEY_FILE).exists():
        _copy(data_root / KEY_FILE, target / KEY_FILE, 0o600)
    count = total = elsewhere = 0
    missing: list[str] = []
    with _opened(target / "files.jsonl") as listing:
        for file in complete_files(database):
            listing.write(msgspec.json.encode(_line(file)) + b"\n")
            if file.backend != "local":
                elsewhere += 1
                continue
            if mode != "none" and not _take(path_of(file.location), target / _inside(file.location), file.size, mode):
                missing.append(file.id)
                continue
            count += 1
            total += file.size
        listing.flush()
        os.fsync(listing.fileno())
    server_id, epoch = identity(database)
    report = BackupReport(
        created_at=rfc3339(now_ms), version=__version__, schema=migrations()[-1][0], server_id=server_id, epoch=epoch,
        file_mode=mode, files=count, bytes=total, elsewhere=elsewhere, missing=missing)
    # Written last: a folder without it is not a backup.
    with _opened(target / "backup.json") as summary:
        summary.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    os.sync()
    return report


def _opened(path: Path) -> BinaryIO:
    """A new file for its owner alone: names of people's files stand in it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _line(file: ListedFile) -> FileLine:
    return FileLine(file.id, file.backend, file.location, file.size, file.chunk_size, file.checksum.hex())


def _inside(location: str) -> Path:
    """A location as a path inside a folder; those of the local store are relative. Raises: BackupError."""
    path = Path(location)
    if path.is_absolute() or ".." in path.parts:
        raise BackupError(f"the location {location!r} leads out of the folder")
    return path


def _take(source: Path, target: Path, size: int, mode: FileMode) -> bool:
    try:
        if source.stat().st_size != size:
            return False
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if mode == "link":
            os.link(source, target)
        else:
            _copy(source, target, 0o640)
    except FileNotFoundError:
        return False
    except OSError as error:
        if mode == "link":
            raise BackupError(f"{target} cannot be linked ({error.strerror}): use --files copy") from error
        raise
    return True


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _require_whole(source: Path, report: BackupReport, *, with_key: bool) -> None:
    """Raises: BackupError where its database is damaged or not that of `report`, or its key is."""
    try:
        if with_key and (source / KEY_FILE).exists():
            kept_secret_key(source)
    except UnfitKey as error:
        raise BackupError(f"the backup is damaged: {error.what}") from None
    # Nothing writes there: so no log beside it is looked for, and a folder that cannot be written to will do.
    address = f"{(source / FILE_NAME).absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            if version_of(connection) != report.schema:
                raise BackupError("backup.json and the database do not belong together")
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupError(f"the database of the backup cannot be read: {error}") from error
    if found != "ok":
        raise BackupError(f"the database of the backup is damaged: {found}")


def restore(source: Path, *, data_root: Path, path_of: Callable[[str], Path], with_key: bool, new_epoch: str,
            now_ms: int) -> RestoreReport:
    """Make `data_root`, which must hold no data, what the backup `source` was.

    with_key: the key in it will sign, so it must be one.

    Raises: BackupError, OSError, sqlite3.Error.
    """
    try:
        report = msgspec.json.decode((source / "backup.json").read_bytes(), type=BackupReport)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{source} is not a finished backup: {error}") from error
    if data_root.exists() and any(data_root.iterdir()):
        raise BackupError(f"{data_root} is not empty: restore into a new folder, or move the old one away first")
    newest = migrations()[-1][0]
    if report.schema > newest:
        raise BackupError(f"the backup has schema version {report.schema}, this program knows up to {newest}")
    _require_whole(source, report, with_key=with_key)
    data_root.mkdir(mode=0o750, parents=True, exist_ok=True)
    # Under another name until it is ready: a cut restore leaves a folder that no server starts on half way.
    database = data_root / (FILE_NAME + ".restoring")
    _copy(source / FILE_NAME, database, 0o600)
    if (source / KEY_FILE).exists():
        _copy(source / KEY_FILE, data_root / KEY_FILE, 0o600)
    count = total = elsewhere = 0
    missing: list[str] = []
    for file in complete_files(database):
        if file.backend != "local":
            elsewhere += 1
            continue
        inside = source / _inside(file.location)
        place = path_of(file.location)
        if not inside.is_file() or inside.stat().st_size != file.size:
            missing.append(file.id)
            continue
        _copy(inside, place, 0o640)
        count += 1
        total += file.size
    forgotten = after_restore(database, now_ms, new_epoch)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    os.sync()
    database.rename(data_root / FILE_NAME)
    return RestoreReport(
        server_id=report.server_id, epoch=new_epoch, files=count, bytes=total, sessions_ended=forgotten.sessions,
        uploads_expired=forgotten.uploads, missing=missing, elsewhere=elsewhere)
