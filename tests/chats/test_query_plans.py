"""The questions that are asked all the time are answered from indexes, however long a chat is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.metadata.sqlite import (
    accounts_users,
    chats_finding,
    chats_groups,
    chats_marks,
    chats_messages,
    chats_rows,
    chats_sync,
    chats_upkeep,
)
from hypersend_server.metadata.sqlite.engine import connect
from tests.chats.world import prepare

NAMED = {"user": "u", "at": 1, "since": 1, "end": 9, "reset": "[]", "touched": '["c"]'}
# Lists that were handed over, and the index of words asked for some (M), newest first (192).
EXPECTED = ("SCAN value", "SCAN (sub", "SCAN touched", "SCAN circle", "SCAN search VIRTUAL TABLE INDEX 192:M")
FIRST_ROWS = (
    "last message", "page", "after rev", "rev at", "due", "looked through in a chat", "looked through", "named")
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
    "a page of the list": (chats_groups.PAGE, ("u", 0, 0, 9, "c", 50)),
    "rev at": (chats_sync.REV_AT, ("c", 1)),
    "changed at rev": (chats_sync.CHANGED_AT_REV, ("c", 1)),
    "due": (chats_sync.DUE, ("c", 1, 9, 1, "u", 8)),
    "how many chats": (chats_sync.MINE, ("u", 9)),
    **{f"changes {n}": (f"{sql} LIMIT ?2", (1, 9)) for n, sql in enumerate(chats_sync.CHANGES)},
    "touched, by change": (chats_sync.BY_CHANGE, (1, "u")),
    "touched, by membership": (chats_sync.BY_MEMBERSHIP, (1, "u")),
    "sync users": (f"SELECT u.changed {chats_sync.USERS} ORDER BY 1 LIMIT 9", NAMED),
    "sync users, by circle": (f"SELECT u.changed {chats_sync.CIRCLE} ORDER BY 1 LIMIT 9", NAMED),
    "people shown": (f"SELECT {accounts_users.VIEW} FROM users u WHERE u.id IN (?2)", ("u", "v")),
    "changed users": (chats_sync.CHANGED_USERS, (1, 9)),
    "how many": (chats_finding.HOW_MANY, ("u",)),
    **{f"sync {stamp}": (f"SELECT {stamp} {source} ORDER BY 1 LIMIT 9", NAMED) for stamp, source in chats_sync.SOURCES},
    "my chats": (chats_finding.MY_CHATS, ("u", 9)),
    "looked through in a chat": (chats_finding.IN_CHAT, ("c", "u", 9, 1, 8)),
    "looked through": (chats_finding.NEWEST, (9, "u", 500)),
    "last seq": (chats_finding.LAST_SEQ, ("c",)),
    "number at": (chats_finding.NUMBER_AT, ("c", 1)),
    "rows of a word": (chats_finding.ROWS, ("text : (tea *)", 9)),
    "checked": (chats_finding.CHECKED, ("[1]", "u")),
    "named": (chats_finding.NAMED, ("chat_id : (c) AND text : (tea *)", "u", 9, 5)),
    "found": (chats_finding.FOUND, ("[1]",)),
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
        if step.startswith("SCAN") and not step.startswith(EXPECTED) and "json_each" not in step
    ]
    assert not scans, plan
    if name in FIRST_ROWS:  # nothing is sorted: the first rows are enough
        assert not any("TEMP B-TREE" in step for step in plan), plan
