"""Who may read a file: its owner, and the members of a chat in which a message that they may see shows it."""

from __future__ import annotations

import sqlite3

from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.sqlite.files_rows import FILE, file_of


def readable(connection: sqlite3.Connection, file_id: str, user_id: str) -> FileRecord | None:
    """The file where this person may read it, whatever its state short of deleted.

    A message below their first_seq grants nothing; one that they deleted for themselves still does.
    """
    row = connection.execute(
        f"SELECT {FILE} FROM files f WHERE f.id = ?1 AND f.state <> 'deleted' AND (f.owner_id = ?2"  # noqa: S608
        " OR EXISTS (SELECT 1 FROM message_files s JOIN members m ON m.chat_id = s.chat_id AND m.user_id = ?2"
        " WHERE s.file_id = f.id AND m.left_at IS NULL AND s.seq >= m.first_seq))",
        (file_id, user_id)).fetchone()
    return None if row is None else file_of(row)
