"""Finding messages by their words, newest first, at a cost that a long history does not raise.

For the beginning of a word FTS5 collects every row that has it before it gives out the newest, so a frequent word
would cost what the whole history has of it. Therefore the newest messages are looked through one by one first, which
finds frequent words at once; what the index is asked for then is rare.

The index is asked with the chats named while they are few. Of many, each would cost a look-up: there its rows are
checked against the memberships instead, and the chats are named only where most rows turn out to be other people's.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hypersend_server.metadata.chats import Found
from hypersend_server.metadata.sqlite.chats_rows import MESSAGE, messages_of, not_hidden
from hypersend_server.metadata.words import fold, has_terms, snippet

LOOKED_THROUGH = 500  # of the newest messages
FEW_CHATS = 64  # that are looked through and named one by one
CHECKED_A_CHAT = 5  # rows of the index that cost as much as naming a chat
FIRST_READ, MOST_READ = 8, 128  # rows of one chat at a time
CHECKED_AT_ONCE = 256

MY_CHATS = "SELECT chat_id, first_seq FROM members WHERE user_id = ?1 AND left_at IS NULL LIMIT ?2"
MY_CHAT = "SELECT chat_id, first_seq FROM members WHERE user_id = ?1 AND chat_id = ?2 AND left_at IS NULL"
HOW_MANY = "SELECT count(*) FROM members WHERE user_id = ?"
_SHOWN = f"x.deleted_at IS NULL {not_hidden('?2')}"
IN_CHAT = (
    f"SELECT x.number, x.text, {_SHOWN}, x.seq FROM messages x"  # noqa: S608
    " WHERE x.chat_id = ?1 AND x.seq < ?3 AND x.seq >= ?4 ORDER BY x.seq DESC LIMIT ?5"
)
NEWEST = (
    f"SELECT x.number, x.text, m.first_seq <= x.seq AND {_SHOWN} FROM messages x"  # noqa: S608
    " LEFT JOIN members m ON m.chat_id = x.chat_id AND m.user_id = ?2 AND m.left_at IS NULL"
    " WHERE x.number < ?1 ORDER BY x.number DESC LIMIT ?3"
)
LAST_SEQ = "SELECT seq FROM messages WHERE chat_id = ? ORDER BY seq DESC LIMIT 1"
NUMBER_AT = "SELECT number FROM messages WHERE chat_id = ? AND seq >= ? ORDER BY seq LIMIT 1"
ROWS = "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid < ?2 ORDER BY rowid DESC"
# CROSS JOIN keeps the order: the index finds, the rest only confirms.
_MINE = (
    " CROSS JOIN members m ON m.chat_id = x.chat_id AND m.user_id = ?2 AND m.left_at IS NULL"
    f" WHERE x.seq >= m.first_seq AND {_SHOWN}"
)
CHECKED = (
    "SELECT x.number FROM json_each(?1) CROSS JOIN messages x ON x.number = json_each.value"  # noqa: S608
    f" {_MINE} ORDER BY x.number DESC"
)
NAMED = (
    "SELECT x.number FROM search CROSS JOIN messages x ON x.number = search.rowid"  # noqa: S608
    f" {_MINE} AND search MATCH ?1 AND search.rowid < ?3 ORDER BY search.rowid DESC LIMIT ?4"
)
FOUND = (
    f"SELECT {MESSAGE}, x.number FROM json_each(?) CROSS JOIN messages x ON x.number = json_each.value"  # noqa: S608
    " ORDER BY x.number DESC"
)


class _Row(NamedTuple):
    """A message that is looked through. shown: to this person."""

    number: int
    text: str
    shown: bool | int | None


class _Place(NamedTuple):
    chat_id: str
    first_seq: int


def match_expression(chat_ids: Sequence[str], terms: Sequence[str]) -> str:
    """An FTS5 query: all the words, the last one as a beginning, in one of these chats or, where none is named,
    anywhere. Everything is quoted."""
    words = [f'"{term}"' for term in terms]
    words[-1] += " *"
    text = f"text : ({' AND '.join(words)})"
    if not chat_ids:
        return text
    chats = " OR ".join('"' + chat_id.replace('"', '""') + '"' for chat_id in chat_ids)
    return f"chat_id : ({chats}) AND {text}"


def found_messages(
    connection: sqlite3.Connection, user_id: str, chat_id: str | None, terms: Sequence[str], before: int, limit: int
) -> list[Found]:
    """The newest messages below the number `before` that this person may see, with all the words.

    chat_id: of one chat alone. terms: as they were written, at least one.
    """
    mine = (MY_CHATS, (user_id, FEW_CHATS + 1)) if chat_id is None else (MY_CHAT, (user_id, chat_id))
    chats = [_Place(*row) for row in connection.execute(*mine)]
    few = chat_id is not None or len(chats) <= FEW_CHATS
    rows = _in_chats(connection, user_id, chats, before) if few else _anywhere(connection, user_id, before)
    folded = [fold(term) for term in terms]
    numbers: list[int] = []
    looked_at = 0
    for row in itertools.islice(rows, LOOKED_THROUGH):
        looked_at += 1
        before = row.number
        if row.shown and has_terms(row.text, folded):
            numbers.append(row.number)
            if len(numbers) == limit:
                break
    if len(numbers) < limit and looked_at == LOOKED_THROUGH:
        ask = _named if few else _checked
        numbers += ask(connection, user_id, terms, before, limit - len(numbers), chats)
    return _found(connection, numbers, folded)


def _in_chats(
    connection: sqlite3.Connection, user_id: str, chats: Sequence[_Place], before: int
) -> Iterator[_Row]:
    return heapq.merge(*(_in_chat(connection, user_id, place, before) for place in chats), reverse=True)


def _in_chat(connection: sqlite3.Connection, user_id: str, place: _Place, before: int) -> Iterator[_Row]:
    seq, count = _seq_at(connection, place.chat_id, before), FIRST_READ
    while True:
        rows = connection.execute(IN_CHAT, (place.chat_id, user_id, seq, place.first_seq, count)).fetchall()
        for number, text, shown, _ in rows:
            yield _Row(number, text, shown)
        if len(rows) < count:
            return
        seq = rows[-1][3]
        count = min(count * 4, MOST_READ)


def _seq_at(connection: sqlite3.Connection, chat_id: str, number: int) -> int:
    """The seq below which the chat's messages have numbers below this one; both grow together."""
    last = connection.execute(LAST_SEQ, (chat_id,)).fetchone()
    if last is None:
        return 0

    def number_at(seq: int) -> int:
        return int(connection.execute(NUMBER_AT, (chat_id, seq)).fetchone()[0])

    if number_at(last[0]) < number:
        return int(last[0]) + 1
    return bisect_left(range(last[0]), number, key=number_at)


def _anywhere(connection: sqlite3.Connection, user_id: str, before: int) -> Iterator[_Row]:
    return (_Row(*row) for row in connection.execute(NEWEST, (before, user_id, LOOKED_THROUGH)))


def _named(
    connection: sqlite3.Connection, user_id: str, terms: Sequence[str], before: int, limit: int, chats: Sequence[_Place]
) -> list[int]:
    if not chats:
        return []
    expression = match_expression([place.chat_id for place in chats], terms)
    return [row[0] for row in connection.execute(NAMED, (expression, user_id, before, limit))]


def _checked(
    connection: sqlite3.Connection, user_id: str, terms: Sequence[str], before: int, limit: int, _: Sequence[_Place]
) -> list[int]:
    chats = connection.execute(HOW_MANY, (user_id,)).fetchone()[0]
    rows = connection.execute(ROWS, (match_expression([], terms), before))
    found: list[int] = []
    for _turn in range(max(1, chats * CHECKED_A_CHAT // CHECKED_AT_ONCE)):
        numbers = [row[0] for row in rows.fetchmany(CHECKED_AT_ONCE)]
        found += [row[0] for row in connection.execute(CHECKED, (json.dumps(numbers), user_id))]
        if len(found) >= limit or len(numbers) < CHECKED_AT_ONCE:
            return found[:limit]
        before = numbers[-1]
    named = [_Place(*row) for row in connection.execute(MY_CHATS, (user_id, -1))]
    return found + _named(connection, user_id, terms, before, limit - len(found), named)


def _found(connection: sqlite3.Connection, numbers: Sequence[int], folded: Sequence[str]) -> list[Found]:
    rows = connection.execute(FOUND, (json.dumps(numbers),)).fetchall()
    return [
        Found(message, *snippet(message.text, folded), row[12])
        for message, row in zip(messages_of(connection, rows), rows, strict=True)
    ]
