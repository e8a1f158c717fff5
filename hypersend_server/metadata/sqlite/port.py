"""SQLite as one end of `migrate-metadata`."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from hypersend_server.metadata.sqlite.engine import connect
from hypersend_server.metadata.sqlite.schema import migrate
from hypersend_server.metadata.transport import Row, Table, is_own

PAGE = 1000


class SqlitePort:
    """Blocks the loop: nothing else runs in a migration."""

    def __init__(self, path: Path) -> None:
        """Raises: sqlite3.Error, MetadataTooNew."""
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._connection = connect(path)
        path.chmod(0o600)
        migrate(self._connection)

    def close(self) -> None:
        self._connection.close()

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        after: tuple[object, ...] | None = None
        key = ", ".join(table.key)
        while True:
            where = "" if after is None else f" WHERE ({key}) > ({', '.join('?' * len(after))})"
            found = self._connection.execute(
                f"SELECT {', '.join(table.columns)} FROM {table.name}{where} ORDER BY {key} LIMIT {PAGE}",  # noqa: S608
                after or ()).fetchall()
            if not found:
                return
            page = [dict(zip(table.columns, row, strict=True)) for row in found]
            after = tuple(page[-1][name] for name in table.key)
            kept = [row for row in page if table.name != "meta" or not is_own(row["key"])]
            if kept:
                yield kept

    async def count(self, table: Table) -> int:
        if table.name == "meta":
            return sum(not is_own(row[0]) for row in self._connection.execute("SELECT key FROM meta"))
        return int(self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])  # noqa: S608

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        columns = list(table.columns)
        if table.name in ("users", "sessions", "chats", "members", "messages", "hidden", "releases"):
            columns.append("changed")
        if table.name == "members":
            columns.append("began")
        sql = (f"INSERT OR REPLACE INTO {table.name} ({', '.join(columns)})"  # noqa: S608
               f" VALUES ({', '.join('?' * len(columns))})")
        # Stamps are given at the end; a message's must differ from the others' of its rev, which they do by the rev.
        with self._transaction() as connection:
            connection.executemany(sql, [tuple(row.get(name, 0) for name in columns) for row in rows])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)

    async def clear(self, table: Table) -> None:
        if table.name != "meta":
            self._connection.execute(f"DELETE FROM {table.name}")  # noqa: S608
            return
        keys = [(row[0],) for row in self._connection.execute("SELECT key FROM meta") if not is_own(row[0])]
        self._connection.executemany("DELETE FROM meta WHERE key = ?", keys)

    async def note(self, source: str) -> str:
        found = self._connection.execute("SELECT value FROM meta WHERE key = 'migration'").fetchone()
        if found is not None:
            return str(found[0])
        if self._connection.execute("SELECT 1 FROM meta WHERE key = 'server_id'").fetchone() or (
                self._connection.execute("SELECT 1 FROM users LIMIT 1").fetchone()):
            return ""
        self._connection.execute("INSERT INTO meta VALUES ('migration', ?)", (source,))
        return source

    async def finish(self, epoch: str) -> None:
        with self._transaction() as connection:
            for table in ("users", "sessions", "chats", "hidden", "members", "releases"):
                connection.execute(f"UPDATE {table} SET changed = 1")  # noqa: S608
            connection.execute("UPDATE members SET began = 1")
            # The stamps of messages grow with the revs of their chat; their numbers, with the time they were made.
            connection.execute("UPDATE messages SET number = -number WHERE number > 0")
            connection.execute(
                "UPDATE messages SET number = o.place, changed = o.place FROM (SELECT number AS had,"
                " row_number() OVER (ORDER BY created_at, chat_id, seq) + 1 AS place FROM messages) o"
                " WHERE messages.number = o.had")
            connection.execute(
                "UPDATE messages SET changed = o.place FROM (SELECT number,"
                " row_number() OVER (ORDER BY rev, chat_id) + 1 AS place FROM messages) o"
                " WHERE messages.number = o.number")
            newest = connection.execute("SELECT coalesce(max(changed), 1) FROM messages").fetchone()[0]
            connection.execute(
                "UPDATE chats SET changed = coalesce((SELECT max(x.changed) FROM messages x"
                " WHERE x.chat_id = chats.id), 1)")
            connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
            connection.execute("DELETE FROM meta WHERE key IN ('search_changed', 'migration', 'epoch')")
            connection.execute("UPDATE meta SET value = ? WHERE key = 'change'", (newest + 1,))
            connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
