"""The search index: an FTS5 table with the chat as an indexed column, written shortly behind the messages.

A message costs its sender no time for the index: rows are added in batches, in the order of their numbers,
and `search_changed` in `meta` says how far that got, in the same transaction. So a crash loses nothing, and a
search first brings the index up to date. A row is in the index when its number is not above that mark and
its text is not empty; an edit or deletion of such a row changes the index at once.

Texts are indexed in NFKC without the joiners that people type or leave out at will; the tokenizer folds case.
"""

from __future__ import annotations

import sqlite3

from hypersend_server.metadata.chats import Found
from hypersend_server.metadata.sqlite.chats_finding import found_messages
from hypersend_server.metadata.sqlite.chats_rows import membership
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.words import normalise, terms_of

BATCH = 256  # rows a transaction: a few milliseconds, so that no sender waits long behind it


def position(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = 'search_changed'").fetchone()
    return 0 if row is None else int(row[0])


def reindex(tx: Tx, number: int, chat_id: str, old: str, new: str) -> None:
    """Follow a change of a message's text, where the index has the message already."""
    if number > position(tx.connection):
        return
    if old:
        tx.execute(
            "INSERT INTO search (search, rowid, chat_id, text) VALUES ('delete', ?, ?, ?)",
            (number, chat_id, normalise(old)),
        )
    if new:
        tx.execute("INSERT INTO search (rowid, chat_id, text) VALUES (?, ?, ?)", (number, chat_id, normalise(new)))


def index_batch(tx: Tx) -> bool:
    """Index the next rows. Returns: whether there may be more."""
    rows = tx.execute(
        "SELECT number, chat_id, text FROM messages WHERE number > ? ORDER BY number LIMIT ?",
        (position(tx.connection), BATCH),
    ).fetchall()
    if not rows:
        return False
    tx.executemany(
        "INSERT INTO search (rowid, chat_id, text) VALUES (?, ?, ?)",
        [(number, chat_id, normalise(text)) for number, chat_id, text in rows if text],
    )
    tx.execute(
        "INSERT INTO meta VALUES ('search_changed', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        (rows[-1][0],),
    )
    return len(rows) == BATCH


def is_behind(connection: sqlite3.Connection) -> bool:
    newest = connection.execute("SELECT max(number) FROM messages").fetchone()[0]
    return newest is not None and newest > position(connection)


class SqliteSearch:
    _engine: Engine

    async def index_search(self) -> None:
        if await self._engine.read(is_behind):
            while await self._engine.write(index_batch):
                pass

    async def search(
        self, user_id: str, query: str, chat_id: str | None, before: int | None, limit: int
    ) -> list[Found]:
        terms = terms_of(query)

        def job(connection: ReadTx) -> list[Found]:
            if chat_id is not None:
                membership(connection, chat_id, user_id)
            if not terms:
                return []
            return found_messages(connection, user_id, chat_id, terms, before or 2**62, limit)

        await self.index_search()
        return await self._engine.read(job)
