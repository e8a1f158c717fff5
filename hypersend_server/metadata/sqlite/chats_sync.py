"""`/sync` on SQLite: what changed for one person behind a stamp, in the order of the stamps.

A round covers the changes in (since, upto], `upto` being the newest when it began, in pages. A page is one
snapshot and delivers the window (at, end], where `end` is chosen so that the window has about `limit` rows;
what one change stamped is never torn apart. A row that changes again meanwhile leaves the window and comes in
the next round, with its newest content. Since each message of a chat carries a higher stamp with a higher
rev, the order of stamps is the order of revs.

A chat is told as `reset` where the membership began in the window (`began` never moves while it lasts), or
where more than MAX_BEHIND revs are due; the latter are decided when the round begins and named in the
position, since later pages could not count them again. Nothing else of a reset chat comes in that round.

What a page costs follows from what is due, not from how many chats the person has: `_touched` finds the chats in
which anything changed, from the person's memberships or from the changes, whichever are fewer.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypersend_server.metadata.chats import MAX_BEHIND, SyncPage, SyncPosition
from hypersend_server.metadata.sqlite.chats_rows import (
    CHAT,
    MEMBER,
    MESSAGE,
    member_of,
    messages_of,
    not_hidden,
    views_of,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx

FEW = 200  # memberships that are looked at one by one
MANY = 2000  # more are not counted
FIRST_READ, MOST_READ = 8, 512  # rows of one chat at a time
MINE = "SELECT 1 FROM members WHERE user_id = ?1 LIMIT ?2"
# Chats in which anything changed behind a stamp, of all people. A message's number is the stamp that made it.
CHANGES = (
    "SELECT chat_id FROM messages WHERE number > ?1",
    "SELECT chat_id FROM messages WHERE changed > ?1 AND changed <> number",
    "SELECT chat_id FROM members WHERE changed > ?1",
)
BY_CHANGE = (
    f"SELECT m.chat_id FROM ({' UNION '.join(CHANGES)}) touched"  # noqa: S608
    " CROSS JOIN members m ON m.chat_id = touched.chat_id AND m.user_id = ?2 AND m.left_at IS NULL"
)
BY_MEMBERSHIP = (
    "SELECT m.chat_id FROM members m WHERE m.user_id = ?2 AND m.left_at IS NULL"
    " AND (EXISTS (SELECT 1 FROM chats c WHERE c.id = m.chat_id AND c.changed > ?1)"
    " OR EXISTS (SELECT 1 FROM members o WHERE o.chat_id = m.chat_id AND o.changed > ?1))"
)
_TOUCHED = "FROM json_each(:touched) touched CROSS JOIN members m ON m.chat_id = touched.value AND m.user_id = :user"
# Memberships whose changes come one by one: those that the device knew when the round began.
_KNOWN = "m.left_at IS NULL AND m.began <= :since AND m.chat_id NOT IN (SELECT value FROM json_each(:reset))"
_SHARED = (
    "EXISTS (SELECT 1 FROM members o CROSS JOIN members m ON m.chat_id = o.chat_id AND m.user_id = :user"
    " AND m.left_at IS NULL WHERE o.user_id = u.id AND o.left_at IS NULL)"
)
# Each source: the stamp, the rows, both over the window (:at, :end].
BEGAN = "FROM members m WHERE m.user_id = :user AND m.left_at IS NULL AND m.began > :at AND m.began <= :end"
LEFT = (
    "FROM members m WHERE m.user_id = :user AND m.left_at IS NOT NULL AND :since > 0"
    " AND m.changed > :at AND m.changed <= :end"
)
CHATS = f"{_TOUCHED} CROSS JOIN chats c ON c.id = m.chat_id AND c.changed > :at AND c.changed <= :end WHERE {_KNOWN}"
MEMBERS = (
    f"{_TOUCHED} CROSS JOIN members o ON o.chat_id = m.chat_id AND o.changed > :at AND o.changed <= :end WHERE {_KNOWN}"
)
HIDDEN = (
    "FROM hidden h CROSS JOIN members m ON m.chat_id = h.chat_id AND m.user_id = h.user_id"
    f" WHERE h.user_id = :user AND h.changed > :at AND h.changed <= :end AND {_KNOWN}"
)
USERS = f"FROM users u WHERE u.changed > :at AND u.changed <= :end AND {_SHARED}"
# The same for few chats on a server of many people.
CIRCLE = (
    "FROM (SELECT DISTINCT o.user_id FROM members m CROSS JOIN members o ON o.chat_id = m.chat_id"
    " AND o.left_at IS NULL WHERE m.user_id = :user AND m.left_at IS NULL) circle"
    " CROSS JOIN users u ON u.id = circle.user_id AND u.changed > :at AND u.changed <= :end"
)
CHANGED_USERS = "SELECT 1 FROM users WHERE changed > ?1 LIMIT ?2"
SOURCES = (
    ("m.began", BEGAN),
    ("m.changed", LEFT),
    ("c.changed", CHATS),
    ("o.changed", MEMBERS),
    ("h.changed", HIDDEN),
)
# The rev at which a chat stood at a stamp; read backwards in the index, so it costs what is due.
REV_AT = "SELECT rev FROM messages WHERE chat_id = ? AND changed <= ? ORDER BY rev DESC LIMIT 1"
# Stamps and revs of a chat grow together, so the first row tells for all behind it.
CHANGED_AT_REV = "SELECT changed FROM messages WHERE chat_id = ? AND rev >= ? ORDER BY rev LIMIT 1"
DUE = (
    "SELECT x.changed, x.number, x.rev FROM messages x WHERE x.chat_id = ?1 AND x.rev > ?2"  # noqa: S608
    f" AND x.changed <= ?3 AND x.seq >= ?4 {not_hidden('?5')} ORDER BY x.rev LIMIT ?6"
)


class _Window(NamedTuple):
    """users: the source of people."""

    connection: sqlite3.Connection
    values: dict[str, Any]
    users: str

    def rows(self, what: str, source: str) -> sqlite3.Cursor:
        return self.connection.execute(f"SELECT {what} {source}", self.values)


class SqliteSync:
    _engine: Engine

    async def sync(self, position: SyncPosition, limit: int) -> SyncPage:
        return await self._engine.read(lambda connection: sync_page(connection, position, limit))


def sync_page(connection: ReadTx, position: SyncPosition, limit: int) -> SyncPage:
    user_id = position.user_id
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('change', 'epoch')"))
    newest, epoch = int(meta["change"]), str(meta.get("epoch", ""))
    full = position.at == 0 or position.epoch != epoch or position.at > newest
    if full:
        position = SyncPosition(epoch, user_id, 0)
    starts = position.upto == 0
    since = position.at if starts else position.since
    touched = _touched(connection, user_id, position.at) if since else []  # a new device knows no chat yet
    if starts:
        far = _far_behind(connection, user_id, since, touched)
        position = SyncPosition(epoch, user_id, position.at, since, newest, far)
    values = {
        "user": user_id,
        "at": position.at,
        "since": position.since,
        "end": position.upto,
        "reset": json.dumps(position.reset),
        "touched": json.dumps(touched),
    }
    is_circle = (
        _count(connection, CHANGED_USERS, position.at, MANY) == MANY
        and _count(connection, MINE, user_id, FEW + 1) <= FEW
    )
    window = _Window(connection, values, CIRCLE if is_circle else USERS)
    due = list(itertools.islice(_due_messages(window), limit + 1))
    end = _end_of_page(window, [stamp for stamp, _ in due], limit)
    values["end"] = end

    began = [row[0] for row in window.rows("m.chat_id", BEGAN)]
    reset = [*(position.reset if starts else ()), *began]
    members = [member_of(row) for row in window.rows(MEMBER.replace("m.", "o."), MEMBERS)]
    wanted = {
        *reset,
        *(row[0] for row in window.rows("c.id", CHATS)),
        *(member.chat_id for member in members if member.user_id == user_id),
    }
    more = end < position.upto
    return SyncPage(
        chats=views_of(
            connection,
            connection.execute(
                f"SELECT {CHAT}, {MEMBER} FROM json_each(?) j CROSS JOIN chats c ON c.id = j.value"  # noqa: S608
                " CROSS JOIN members m ON m.chat_id = c.id AND m.user_id = ? AND m.left_at IS NULL",
                (json.dumps(sorted(wanted)), user_id),
            ),
        ),
        members=members,
        user_ids=[row[0] for row in window.rows("u.id", window.users)],
        messages=_messages(connection, [number for stamp, number in due if stamp <= end]),
        hidden=[(row[0], row[1]) for row in window.rows("h.chat_id, h.message_id", HIDDEN)],
        gone=[row[0] for row in window.rows("m.chat_id", LEFT)],
        reset=reset,
        position=SyncPosition(epoch, user_id, end, position.since, position.upto, position.reset)
        if more
        else SyncPosition(epoch, user_id, position.upto),
        more=more,
        full=full,
    )


def _touched(connection: sqlite3.Connection, user_id: str, since: int) -> list[str]:
    """Chats of this person in which something may have changed."""
    sql = BY_MEMBERSHIP
    mine = _count(connection, MINE, user_id, MANY)
    if mine > FEW and all(_count(connection, f"{change} LIMIT ?2", since, mine) < mine for change in CHANGES):
        sql = BY_CHANGE
    return [row[0] for row in connection.execute(sql, (since, user_id))]


def _count(connection: sqlite3.Connection, rows: str, *values: str | int) -> int:
    return int(connection.execute(f"SELECT count(*) FROM ({rows})", values).fetchone()[0])  # noqa: S608


def _far_behind(connection: sqlite3.Connection, user_id: str, since: int, touched: list[str]) -> tuple[str, ...]:
    chats = connection.execute(
        "SELECT c.id, c.rev FROM json_each(?1) touched"
        " CROSS JOIN members m ON m.chat_id = touched.value AND m.user_id = ?2"
        " CROSS JOIN chats c ON c.id = m.chat_id AND c.changed > ?3 AND c.rev > ?4"
        " WHERE m.left_at IS NULL AND m.began <= ?3",
        (json.dumps(touched), user_id, since, MAX_BEHIND),
    ).fetchall()
    return tuple(chat_id for chat_id, rev in chats if _changed_at_rev(connection, chat_id, rev - MAX_BEHIND) > since)


def _changed_at_rev(connection: sqlite3.Connection, chat_id: str, rev: int) -> int:
    row = connection.execute(CHANGED_AT_REV, (chat_id, rev)).fetchone()
    return 0 if row is None else int(row[0])


def _rev_at(connection: sqlite3.Connection, chat_id: str, stamp: int) -> int:
    row = connection.execute(REV_AT, (chat_id, stamp)).fetchone()
    return 0 if row is None else int(row[0])


def _due_messages(window: _Window) -> Iterator[tuple[int, int]]:
    """(stamp, number) of all messages in the window, by stamp; rows are read as far as they are asked for."""
    chats = window.connection.execute(
        f"SELECT m.chat_id, m.first_seq {_TOUCHED} CROSS JOIN chats c"
        f" ON c.id = m.chat_id AND c.changed > :at WHERE {_KNOWN}",
        window.values,
    ).fetchall()
    return heapq.merge(*(_due_of_chat(window, chat_id, first_seq) for chat_id, first_seq in chats))


def _due_of_chat(window: _Window, chat_id: str, first_seq: int) -> Iterator[tuple[int, int]]:
    # Not one open cursor a chat: each would be a statement prepared anew.
    values, connection = window.values, window.connection
    rev, count = _rev_at(connection, chat_id, values["at"]), FIRST_READ
    while True:
        rows = connection.execute(DUE, (chat_id, rev, values["end"], first_seq, values["user"], count)).fetchall()
        for stamp, number, _ in rows:
            yield stamp, number
        if len(rows) < count:
            return
        rev = rows[-1][2]
        count = min(count * 4, MOST_READ)


def _end_of_page(window: _Window, stamps: list[int], limit: int) -> int:
    """The last stamp of a page of about `limit` rows."""
    for stamp, source in (*SOURCES, ("u.changed", window.users)):
        rows = window.connection.execute(f"SELECT {stamp} {source} ORDER BY 1 LIMIT {limit + 1:d}", window.values)
        stamps.extend(row[0] for row in rows)
    stamps.sort()
    if len(stamps) <= limit:
        return int(window.values["end"])
    first, beyond = stamps[0], stamps[limit]
    return beyond - 1 if first < beyond else first


def _messages(connection: sqlite3.Connection, numbers: list[int]) -> list[Any]:
    rows = connection.execute(
        f"SELECT {MESSAGE} FROM json_each(?) j CROSS JOIN messages x ON x.number = j.value"  # noqa: S608
        " ORDER BY x.changed",
        (json.dumps(numbers),),
    )
    return messages_of(connection, rows)
