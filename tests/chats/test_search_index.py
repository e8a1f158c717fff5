"""The search index: what a crash leaves, what the tokenizer does to Hindi, what a query may do."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hypersend_server.metadata.sqlite.chats_finding as chats_finding
import hypersend_server.metadata.sqlite.chats_search as chats_search
from hypersend_server.metadata.chats import Draft
from hypersend_server.metadata.sqlite.chats_finding import match_expression
from hypersend_server.metadata.words import fold, has_terms, normalise, snippet, terms_of
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


@given(st.text(max_size=200), st.text(max_size=10))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_snippet_is_a_part_of_the_text_and_its_marks_lie_in_it(text: str, query: str) -> None:
    terms = [fold(term) for term in terms_of(query)]
    if not terms:
        return
    part, marks = snippet(text, terms)
    assert part.removeprefix("…").removesuffix("…") in text or part in text
    assert all(0 <= start < end <= len(part) for start, end in marks)
    if has_terms(text, terms) and text.isascii():
        assert marks


WORDS = ("tea", "teapot", "green", "Grün", "चाय")
PEOPLE_IN = {"one": ("alice", "bob"), "two": ("alice", "carol"), "three": ("bob", "carol"), "four": ("alice", "dave")}


@pytest.mark.parametrize(("few_chats", "looked_through"), [(64, 500), (64, 3), (0, 3), (0, 0)])
async def test_each_way_of_looking_finds_the_same_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_chats: int, looked_through: int
) -> None:
    monkeypatch.setattr(chats_finding, "FEW_CHATS", few_chats)
    monkeypatch.setattr(chats_finding, "LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(chats_finding, "FIRST_READ", 2)
    monkeypatch.setattr(chats_finding, "CHECKED_AT_ONCE", 5)
    prepare(tmp_path / "db")
    chance = random.Random(7)
    said: list[tuple[str, str, str]] = []
    async with opened(tmp_path / "db") as world:
        for chat_id, people in PEOPLE_IN.items():
            await world.chats.create_group(people[0], people[1:], "t", "all", chat_id, f"{chat_id}-made", 1)
        for n in range(150):
            chat_id = chance.choice(tuple(PEOPLE_IN))
            text = " ".join(chance.choices(WORDS, k=chance.randint(1, 3)))
            draft = Draft(id=f"m{n}", chat_id=chat_id, sender_id=PEOPLE_IN[chat_id][0], client_id=f"m{n}", text=text,
                          now=1)
            await world.chats.append(draft, -1)
            said.append((f"m{n}", chat_id, text))
        gone = {"m140", "m60"}
        for name, chat_id, _ in [one for one in said if one[0] in gone and "alice" in PEOPLE_IN[one[1]]]:
            await world.chats.hide(chat_id, name, "alice")

        async def found_in_pages(query: str, chat_id: str | None) -> list[str]:
            names: list[str] = []
            before = None
            while page := await world.chats.search("alice", query, chat_id, before, 4):
                names += [hit.message.id for hit in page]
                before = page[-1].position
            return names

        for query in ("tea", "te", "green tea", "grün", "चा", "nothing", "teapot green t"):
            terms = [fold(term) for term in terms_of(query)]
            for chat in (None, "two"):
                expected = [name for name, chat_id, text in reversed(said) if name not in gone
                            and "alice" in PEOPLE_IN[chat_id] and chat in (None, chat_id) and has_terms(text, terms)]
                assert await found_in_pages(query, chat) == expected, query
