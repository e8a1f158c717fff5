"""Consistent copies of a SQLite database that is in use, and what a restored copy must forget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hypersend_server.metadata.sqlite.engine import connect


class ListedFile(NamedTuple):
    """One complete file of the copy. size in bytes; checksum: 32 raw bytes over the chunk digests."""

    id: str
    backend: str
    location: str
    size: int
    chunk_size: int
    checksum: bytes


class Forgotten(NamedTuple):
    """What `after_restore` ended."""

    sessions: int
    uploads: int


def snapshot(source: Path, target: Path) -> None:
    """Copy the database as of one moment, writers going on meanwhile.

    In one step: copying in several starts again at every commit of another process, so beside a busy server it
    would never end. WAL keeps the snapshot readable without holding writers up.
    Raises: sqlite3.Error, OSError.
    """
    target.touch(mode=0o600)
    with closing(connect(source, read_only=True)) as reader, closing(sqlite3.connect(target)) as writer:
        reader.backup(writer, pages=-1)
        writer.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it


def complete_files(path: Path) -> Iterator[ListedFile]:
    with closing(connect(path, read_only=True)) as connection:
        rows = connection.execute(
            "SELECT id, backend, location, size, chunk_size, checksum FROM files WHERE state = 'complete' ORDER BY id")
        for row in rows:
            yield ListedFile(*row)


def identity(path: Path) -> tuple[str, str]:
    """(server_id, epoch) of a database; empty where it has never been served."""
    with closing(connect(path, read_only=True)) as connection:
        rows = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('server_id', 'epoch')"))
    return rows.get("server_id", ""), rows.get("epoch", "")


def after_restore(path: Path, now_ms: int, new_epoch: str) -> Forgotten:
    """End sessions (their devices may know later tokens), expire uploads (their bytes were not in the copy), and
    begin a new epoch, since counters may have been set back."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        sessions = connection.execute(
            "UPDATE sessions SET ended_at = ? WHERE ended_at IS NULL", (now_ms,)).rowcount
        uploads = connection.execute(
            "UPDATE files SET state = 'expired', expires_at = NULL WHERE state IN ('uploading', 'completing')"
        ).rowcount
        connection.execute("DELETE FROM chunks WHERE file_id IN (SELECT id FROM files WHERE state = 'expired')")
        connection.execute("DELETE FROM partials")
        connection.execute("DELETE FROM leases")
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (new_epoch,))
        connection.execute("COMMIT")
    return Forgotten(sessions, uploads)
