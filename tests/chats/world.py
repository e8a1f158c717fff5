"""A database with people in it, for tests of chats below HTTP."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from hypersend_server.metadata.sqlite.chats import SqliteChats
from hypersend_server.metadata.sqlite.engine import Engine, Tx, connect
from hypersend_server.metadata.sqlite.schema import migrate

PEOPLE = ("alice", "bob", "carol", "dave")


def prepare(path: Path, people: Iterable[str] = PEOPLE) -> None:
    with closing(connect(path)) as connection:
        migrate(connection)
        for name in people:
            connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'change'")
            connection.execute(
                "INSERT INTO users (id, email, email_key, username, display_name, name_key, password_hash,"
                " created_at, changed) VALUES (?1, ?1, ?1, ?1, ?1, ?1, 'x', 1,"
                " (SELECT value FROM meta WHERE key = 'change'))",
                (name,),
            )


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[World]:
    engine = Engine(path)
    await engine.open()
    try:
        yield World(engine)
    finally:
        await engine.close()


class World:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.chats = SqliteChats(engine)

    async def rename(self, user_id: str, name: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute("UPDATE users SET display_name = ?, changed = ? WHERE id = ?", (name, tx.stamp(), user_id))

        await self.engine.write(job)

    async def run(self, sql: str, *values: object) -> None:
        await self.engine.write(lambda tx: tx.execute(sql, values) and None)

    async def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        def job(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            return connection.execute(sql, values).fetchall()

        return await self.engine.read(job)
