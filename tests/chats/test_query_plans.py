"""The questions that are asked all the time are answered from indexes, however long a chat is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.metadata.sqlite import (
    chats_groups,
    chats_marks,
    chats_messages,
    chats_rows,
    chats_sync,
    chats_upkeep,
)
from hypersend_server.metadata.sqlite.engine import connect
from tests.chats.world import prepare

NAMED = {"user": "u", "at": 1, "since": 1, "end": 9, "reset": "[]"}
STATEMENTS: dict[str, tuple[str, Any]] = {
    "sender": (chats_messages.SENDER, ("c", "u")),
    "marks": (chats_marks.MARKS, ("c", "u")),
    "last message": (chats_rows.LAST_MESSAGE, ("c", 1, "u")),
    "unread": (chats_rows.UNREAD, ("c", 1, "u")),
    "page": (
        f"SELECT 1 FROM messages x WHERE x.chat_id = ?1 {chats_messages.VISIBLE} AND x.seq < ?4"
        " ORDER BY x.seq DESC LIMIT 5",
        ("c", 1, "u", 9),
    ),
    "after rev": (
        f"SELECT 1 FROM messages x WHERE x.chat_id = ?1 {chats_messages.VISIBLE} AND x.rev > ?4 ORDER BY x.rev LIMIT 5",
        ("c", 1, "u", 9),
    ),
    "members": ("SELECT user_id, first_seq FROM members WHERE chat_id = ? AND left_at IS NULL", ("c",)),
    "list": (chats_groups.LISTED, ("u",)),
    "rev at": (chats_sync.REV_AT, ("c", 1)),
    "due": (chats_sync.DUE, ("c", 1, 9, 1, "u")),
    **{f"sync {stamp}": (f"SELECT {stamp} {source} ORDER BY 1 LIMIT 9", NAMED) for stamp, source in chats_sync.SOURCES},
    "not indexed yet": ("SELECT number FROM messages WHERE number > ? ORDER BY number LIMIT 9", (1,)),
    "of a sender": (f"SELECT 1 {chats_upkeep.OF_SENDER} LIMIT 9", ("u",)),
}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    prepare(tmp_path / "db")
    with closing(connect(tmp_path / "db")) as connection:
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_table_is_read_from_end_to_end(connection: sqlite3.Connection, name: str) -> None:
    sql, values = STATEMENTS[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    scans = [
        step
        for step in plan
        if step.startswith("SCAN") and not step.startswith(("SCAN value", "SCAN (sub")) and "json_each" not in step
    ]
    assert not scans, plan
    if name in ("last message", "page", "after rev", "rev at", "due"):  # nothing is sorted: the first rows are enough
        assert not any("TEMP B-TREE" in step for step in plan), plan
