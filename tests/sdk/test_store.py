from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersend_client.sdk import Changes, Chat, LocalStorageFailed, Member, Message, User
from hypersend_client.sdk.cache import Writer
from hypersend_client.sdk.models import format_time, parse_time
from hypersend_client.sdk.store import Store

ME = "me"


def message(seq: int, rev: int | None = None, **fields: Any) -> Message:
    return Message(id=f"m{seq}", chat_id="c", seq=seq, rev=seq if rev is None else rev, text=f"text {seq}",
                   **{"sender_id": "other", **fields})


def chat(last: int = 0, **fields: Any) -> Chat:
    return Chat(**{"id": "c", "title": "Chat", "seq": last, "rev": last,
                   "last_message": message(last) if last else None, **fields})


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(":memory:", ME)
    await store.open()
    yield store
    await store.close()


async def apply(store: Store, *told: Chat | Message, live: bool = True) -> Writer:
    def work(writer: Writer) -> Writer:
        for one in told:
            if isinstance(one, Chat):
                writer.chat(one)
            else:
                writer.message(one, live=live)
        return writer

    return await store.write(work)


async def the_chat(store: Store) -> Chat:
    found = await store.chat("c")
    assert found is not None
    return found


async def test_a_new_message_moves_the_chat_on(store: Store) -> None:
    await apply(store, chat(), message(1), message(2), message(3, kind="system"), message(4, sender_id=ME))
    now = await the_chat(store)
    assert (now.seq, now.rev, now.last_message and now.last_message.id) == (4, 4, "m4")
    assert now.unread == 2, "neither one's own, nor what the system says"
    await apply(store, message(5), message(5))
    assert (await the_chat(store)).unread == 3, "not twice"


async def test_an_older_change_never_undoes_a_newer_one(store: Store) -> None:
    await apply(store, chat(), replace(message(1, 3), text="edited"))
    await apply(store, message(1, 1))
    assert [m.text for m in await store.messages("c")] == ["edited"]


async def test_a_missing_change_is_noticed_and_one_that_was_overtaken_is_not_missing(store: Store) -> None:
    writer = await apply(store, chat(1), message(3))
    assert writer.behind == {"c"}
    writer = await apply(store, message(2))
    assert writer.behind == set()
    assert await store.read(lambda db: db.execute("SELECT synced_rev FROM chats").fetchone()) == (3,)


async def test_a_message_of_a_chat_that_is_not_known_asks_for_it(store: Store) -> None:
    assert (await apply(store, message(1))).unknown == {"c"}
    assert await store.messages("c") == []


async def test_holes_are_not_shown(store: Store) -> None:
    await apply(store, chat(100), replace(message(7, 101), text="an old one, edited"), message(101, 102))
    assert [m.seq for m in await store.messages("c")] == [100, 101]
    await store.write(lambda w: w.older("c", [message(n) for n in range(50, 100)], 50))
    assert [m.seq for m in await store.messages("c", limit=200)] == list(range(50, 102))
    await store.write(lambda w: w.older("c", [message(n) for n in range(1, 50)], 1))
    assert (await store.messages("c", before_seq=8, limit=1))[0].text == "an old one, edited"


async def test_what_is_hidden_stays_hidden_when_it_changes_later(store: Store) -> None:
    await apply(store, chat(), message(1), message(2))
    await store.write(lambda w: w.hidden("c", "m2"))
    now = await the_chat(store)
    assert (now.unread, now.last_message and now.last_message.id) == (1, "m1")
    await apply(store, replace(message(2, 3), text="edited"))
    assert [m.id for m in await store.messages("c")] == ["m1"]
    await store.write(lambda w: w.hidden("c", "m2"))
    assert (await the_chat(store)).unread == 1


async def test_a_deletion_for_everyone_is_no_longer_unread(store: Store) -> None:
    await apply(store, chat(), message(1), message(2))
    await apply(store, message(1, 3, deleted_at=datetime.now(UTC)))
    assert (await the_chat(store)).unread == 1


async def test_reading_counts_what_is_left(store: Store) -> None:
    await apply(store, chat(), *(message(n) for n in range(1, 6)), message(6, kind="system"))
    await store.write(lambda w: w.read("c", ME, 3))
    assert (await the_chat(store)).unread == 2
    await apply(store, chat(6, read_seq=0, unread=5))
    assert (await the_chat(store)).unread == 2, "the server has not heard of it yet"
    await store.write(lambda w: w.read("c", ME, 1))
    assert (await the_chat(store)).read_seq == 3, "never backwards"


async def test_a_reset_forgets_what_was_and_keeps_what_came_after(store: Store) -> None:
    await apply(store, chat(), *(message(n) for n in range(1, 4)))
    await apply(store, message(12, 12))
    await store.write(lambda w: w.chat(chat(11), reset=True))
    assert [m.seq for m in await store.messages("c")] == [11, 12]
    assert (await the_chat(store)).seq == 12


async def test_marks_of_members_never_go_backwards(store: Store) -> None:
    member = Member(user=User(id="u", online=True), delivered_seq=2, read_seq=1)
    await apply(store, chat(5))
    await store.write(lambda w: w.members("c", [member]))
    await store.write(lambda w: w.read("c", "u", 4))
    await store.write(lambda w: w.delivered("c", "u", 1))
    assert [(m.delivered_seq, m.read_seq) for m in await store.members("c")] == [(4, 4)]
    await store.write(lambda w: w.member("c", replace(member, user=User(id="u"), read_seq=4)))
    assert (await store.users(["u"]))["u"].online, "a row that goes to many alike tells nothing of presence"
    await store.write(lambda w: w.member("c", replace(member, left_at=datetime.now(UTC))))
    assert await store.members("c") == []


async def test_presence_reaches_the_list_of_chats(store: Store) -> None:
    await apply(store, chat(1, kind="direct", peer=User(id="u")))
    changes: list[Changes] = []
    store.on_change(changes.append)
    await store.write(lambda w: w.presence("u", True, None))
    now = await the_chat(store)
    assert now.peer is not None
    assert now.peer.online
    assert changes[0].chats == {"c"}


async def test_a_listener_hears_what_changed_and_only_that(store: Store) -> None:
    heard: list[Changes] = []
    unsubscribe = store.on_change(heard.append)
    await apply(store, chat(), message(1))
    await apply(store, message(1))
    await store.set_draft("c", "half")
    unsubscribe()
    await apply(store, message(2))
    assert [(c.chats, c.messages, c.drafts) for c in heard] == [({"c"}, {"c"}, set()), (set(), set(), {"c"})]


async def test_a_write_that_fails_changes_nothing(store: Store) -> None:
    def broken(writer: Writer) -> None:
        writer.chat(chat(3))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(broken)
    assert await store.chats() == []


async def test_pinned_chats_come_first_and_archived_ones_apart(store: Store) -> None:
    for number, fields in enumerate([{}, {"pinned": True}, {"archived": True}, {}]):
        when = datetime(2026, 1, 1, number, tzinfo=UTC)
        await apply(store, Chat(id=str(number), updated_at=when, **fields))  # type: ignore[arg-type]
    assert [c.id for c in await store.chats()] == ["1", "3", "0"]
    assert [c.id for c in await store.chats(archived=True)] == ["2"]
    assert len(await store.chats(archived=None)) == 4


async def test_a_damaged_cache_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    store = Store(path, ME)
    await store.open()
    await apply(store, chat(1))
    await store.close()
    assert (tmp_path / "cache.sqlite.damaged").read_bytes().startswith(b"this is")
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_cache_of_another_version_keeps_drafts_and_unsent_messages(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    store = Store(path, ME)
    await store.open()
    await apply(store, chat(1))
    await store.set_draft("c", "half a th")
    await store.write(lambda w: w.db.execute(
        "INSERT INTO outbox VALUES (NULL, 'c', 'id', '{}', '[]', 'queued', '', '', '2026-01-01T00:00:00Z')"))
    await store.close()
    await asyncio.to_thread(_set_version, path, 999)
    store = Store(path, ME)
    await store.open()
    assert await store.chats() == []
    assert (await store.drafts())["c"].text == "half a th"
    assert await store.read(lambda db: db.execute("SELECT client_id FROM outbox").fetchall()) == [("id",)]
    await store.close()


def _set_version(path: Path, version: int) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


async def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "cache.sqlite", ME)
    with pytest.raises(LocalStorageFailed):
        await store.open()
    await store.close()


@st.composite
def changes(draw: st.DrawFn) -> list[Message]:
    """A chat's life: new messages, edits and deletions, each with the next rev."""
    told: list[Message] = []
    seq = 0
    for rev in range(1, draw(st.integers(1, 20)) + 1):
        if seq == 0 or draw(st.booleans()):
            seq += 1
            told.append(message(seq, rev, sender_id=draw(st.sampled_from(["other", ME]))))
        else:
            of = draw(st.sampled_from([m for m in told]))
            gone = datetime(2026, 1, 1, tzinfo=UTC) if draw(st.booleans()) else None
            latest = max((m for m in told if m.id == of.id), key=lambda m: m.rev)
            told.append(replace(latest, rev=rev, text=f"changed in {rev}", deleted_at=latest.deleted_at or gone))
    return told


@settings(max_examples=60, deadline=None)
@given(changes(), st.randoms(use_true_random=False))
async def test_messages_in_any_order_and_twice_end_the_same(told: list[Message], random: Any) -> None:
    shuffled = told + random.sample(told, len(told) // 2)
    random.shuffle(shuffled)
    ends = []
    for order in (told, shuffled):
        store = Store(":memory:", ME)
        await store.open()
        await apply(store, chat(), *order)
        now = await the_chat(store)
        assert now.last_message is not None
        synced = await store.read(lambda db: db.execute("SELECT synced_rev FROM chats").fetchone()[0])
        shown = {m.id: m for m in await store.messages("c", limit=100)}
        ends.append((shown, now.seq, now.rev, now.last_message))
        await store.close()
        if synced == told[-1].rev:
            assert now.unread == sum(m.sender_id != ME and m.deleted_at is None for m in shown.values())
        assert order is shuffled or synced == told[-1].rev
    assert ends[0] == ends[1]


# Models


def test_a_newer_servers_answers_are_read() -> None:
    read = Message.from_json({
        "id": "m", "chat_id": "c", "seq": 1, "rev": 2, "kind": "hologram", "colour": "red", "text": None,
        "reactions": [{"emoji": "x", "user_ids": [], "at": 1}], "created_at": "2026-01-31T10:30:00.125+01:00"})
    assert (read.kind, read.text, read.reactions[0].emoji) == ("hologram", "", "x")
    assert read.created_at == datetime(2026, 1, 31, 9, 30, 0, 125000, tzinfo=UTC)
    assert Message.from_json(json.loads(json.dumps(read.to_json()))) == read


@pytest.mark.parametrize("data", [
    None, [], "x", {}, {"id": 1}, {"id": "m"}, {"id": "m", "chat_id": "c", "seq": "1", "rev": 1},
    {"id": "m", "chat_id": "c", "seq": True, "rev": 1}, {"id": "m", "chat_id": "c", "seq": 1, "rev": 1, "files": {}},
    {"id": "m", "chat_id": "c", "seq": 1, "rev": 1, "created_at": "yesterday"},
])
def test_what_cannot_be_read_is_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError):
        Message.from_json(data)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_the_wire(when: datetime) -> None:
    whole = when.replace(microsecond=when.microsecond // 1000 * 1000)
    assert parse_time(format_time(whole)) == whole
