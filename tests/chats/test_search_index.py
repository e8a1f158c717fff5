"""The search index: what a crash leaves, what the tokenizer does to Hindi, what a query may do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hypersend_server.metadata.sqlite.chats_search as chats_search
from hypersend_server.metadata.chats import Draft
from hypersend_server.metadata.sqlite.chats_search import match_expression, unmark
from hypersend_server.metadata.words import normalise, terms_of
from tests.chats.world import World, opened, prepare

TOKENIZERS = {
    "default": "unicode61",
    "ours": "unicode61 remove_diacritics 0 categories 'L* N* Co Mn Mc'",
}


def finds(tokenizer: str, text: str, query: str) -> bool:
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f'CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = "{tokenizer}")')
        connection.execute("INSERT INTO t VALUES (?)", (text,))
        found = connection.execute("SELECT 1 FROM t WHERE t MATCH ?", (f'"{query}"',)).fetchone() is not None
    connection.close()
    return found


def test_the_default_tokenizer_takes_different_hindi_words_for_the_same() -> None:
    # It drops vowel signs (Mn) and cuts at others (Mc): 'kitab' (book) would be found for 'katab'.
    book, other = "किताब", "कताब"
    assert finds(TOKENIZERS["default"], book, "त")  # a letter from the middle of the word
    assert not finds(TOKENIZERS["ours"], book, "त")
    assert finds(TOKENIZERS["ours"], book, book)
    assert not finds(TOKENIZERS["ours"], book, other)


async def say(world: World, text: str, name: str, chat_id: str = "g") -> None:
    await world.chats.append(Draft(id=name, chat_id=chat_id, sender_id="alice", client_id=name, text=text, now=1), -1)


async def found(world: World, query: str) -> list[str]:
    return [hit.message.id for hit in await world.chats.search("alice", query, None, None, 50)]


async def test_what_was_not_indexed_when_the_process_died_is_found_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chats_search, "BATCH", 3)
    prepare(tmp_path / "db")
    async with opened(tmp_path / "db") as world:
        await world.chats.create_group("alice", [], "t", "all", "g", "made", 1)
        for n in range(10):
            await say(world, f"tea number{n}", f"m{n}")
        await world.engine.write(chats_search.index_batch)  # a first batch only
    async with opened(tmp_path / "db") as world:
        assert await found(world, "tea") == [f"m{n}" for n in reversed(range(10))]
        await say(world, "more tea", "last")
        assert (await found(world, "tea"))[0] == "last"
        [(integrity,)] = await world.rows("SELECT count(*) FROM search")
        assert integrity == 12
        await world.run("INSERT INTO search (search) VALUES ('integrity-check')")


async def test_a_purged_chat_leaves_nothing_in_the_index(tmp_path: Path) -> None:
    prepare(tmp_path / "db")
    async with opened(tmp_path / "db") as world:
        await world.chats.create_group("alice", [], "t", "all", "g", "made", 1)
        await say(world, "tea with the old words", "m1")
        assert await found(world, "tea") == ["m1"]
        await world.chats.delete_chat("g", "alice", 2)
        while await world.chats.purge("g", 10):
            pass
        assert await world.rows("SELECT rowid FROM search WHERE search MATCH 'tea'") == []
        await world.chats.create_group("alice", [], "t", "all", "g2", "made2", 1)
        await say(world, "new tea", "m2", "g2")
        assert await found(world, "tea") == ["m2"]


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_query_is_valid_and_only_words(query: str) -> None:
    terms = terms_of(query)
    if not terms:
        return
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f'CREATE VIRTUAL TABLE t USING fts5 (chat_id, text, tokenize = "{TOKENIZERS["ours"]}")')
        connection.execute("INSERT INTO t VALUES ('c1', ?), ('c2', ?)", (normalise(query),) * 2)
        rows = connection.execute(
            "SELECT chat_id FROM t WHERE t MATCH ?", (match_expression(["c1"], terms),)
        ).fetchall()
    connection.close()
    # A text is found by its own words (the first ones), in the chat that was named and in no other.
    assert rows in ([("c1",)], []), rows
    if query.isascii():
        assert rows == [("c1",)]


def test_a_snippet_without_its_markers() -> None:
    snippet = "a \ufdd0b\ufdd1 c \ufdd0d e\ufdd1"
    assert unmark(snippet) == ("a b c d e", [(2, 3), (6, 9)])
    assert unmark("plain") == ("plain", [])
    text, marks = unmark("odd \ufdd1 \ufdd0")
    assert text == "odd  "
    assert all(0 <= start < end <= len(text) for start, end in marks)
