"""Brings a database to the newest schema: every migration in order, each one transaction.

A new database replays them all, so an upgraded one and a new one cannot differ.
"""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from hypersend_server.metadata.errors import MetadataTooNew


def migrations() -> list[tuple[int, str]]:
    """(version, SQL) pairs, ascending from 1 without a hole."""
    found = []
    for item in resources.files("hypersend_server.metadata").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", item.name):
            found.append((int(match[1]), item.read_text(encoding="utf-8")))
    return sorted(found)


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def statements(script: str) -> list[str]:
    """The script's statements; sqlite's own `executescript` would commit the transaction around them."""
    found, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return found


def migrate(connection: sqlite3.Connection) -> None:
    """Raises: MetadataTooNew, leaving the database as it is; sqlite3.Error."""
    steps = migrations()
    newest = steps[-1][0]
    if version_of(connection) > newest:
        raise MetadataTooNew(version_of(connection), newest)
    for version, script in steps:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again inside the transaction: a command beside the server may be at the same step.
            if version_of(connection) < version:
                for statement in statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version:d}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
