"""What every backend's `Chats` must do with marks, sync, search and upkeep."""

from __future__ import annotations

import asyncio

import pytest

from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import (
    MAX_BEHIND,
    SyncPosition,
)
from hypersend_server.metadata.conformance.chats_people import (
    NOW,
    group,
    people,
    post,
    rest,
    say,
    synced,
    texts,
)


class ChatsReadingConformance:
    """Tests of `metadata.chats`; `metadata` is an open, empty backend."""

    # Marks and unread

    async def test_marks_only_grow_and_end_at_the_newest_message(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        for n in range(4):
            await say(chats, "g", "a", f"t{n}")
        marks = await chats.set_marks("g", "b", 3, 0, -1)
        assert (marks.delivered_seq, marks.read_seq, marks.delivered_moved, marks.read_moved) == (3, 0, True, False)
        marks = await chats.set_marks("g", "b", 0, 4, -1)
        assert (marks.delivered_seq, marks.read_seq) == (4, 4)
        marks = await chats.set_marks("g", "b", 2, 2, -1)
        assert (marks.delivered_seq, marks.read_seq, marks.delivered_moved, marks.read_moved) == (4, 4, False, False)
        assert (await chats.set_marks("g", "b", 0, 2**50, -1)).read_seq == 5

    async def test_unread_counts_what_others_said_behind_the_mark(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        said = [await say(chats, "g", sender, f"t{n}") for n, sender in enumerate("aabaa")]
        await chats.update_group("g", "a", {"title": "Chai"}, None, "s", NOW)

        async def unread(user_id: str) -> int:
            view = await chats.get_chat("g", user_id)
            assert view is not None
            return view.unread

        assert (await unread("a"), await unread("b")) == (1, 4)
        await chats.delete_message("g", said[3].id, "a", NOW)
        await chats.set_marks("g", "b", 0, said[0].seq, -1)
        assert await unread("b") == 2

    # Sync

    async def test_the_first_sync_tells_of_every_chat_without_its_past(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        for n in range(7):
            await group(chats, "a", "b", chat_id=f"g{n}")
            await say(chats, f"g{n}", "a", "old")
        pages = await rest(chats, SyncPosition("", "b", 0), 3)
        assert [page.full for page in pages] == [True] + [False] * (len(pages) - 1)
        assert len(pages) > 2
        told = [chat_id for page in pages for chat_id in page.reset]
        assert sorted(told) == [f"g{n}" for n in range(7)]
        assert told == [view.chat.id for page in pages for view in page.chats]
        assert {user_id for page in pages for user_id in page.user_ids} == {"a", "b"}
        assert all(not page.messages and not page.gone for page in pages)

    async def test_a_token_from_before_a_restore_starts_anew(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        await metadata.server.identity()
        await group(chats, "a")
        at = await synced(chats, "a")
        assert (await chats.sync(at, 10)).full is False
        await metadata.server.renew_epoch()
        page = await chats.sync(at, 10)
        assert (page.full, page.reset) == (True, ["g"])
        at = page.position
        page = await chats.sync(SyncPosition(at.epoch, "a", at.at + 10**6), 10)  # ahead of this database
        assert (page.full, page.reset) == (True, ["g"])

    async def test_far_behind_means_loading_anew(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b", chat_id="loud")
        await group(chats, "a", "b", chat_id="calm")
        at = await synced(chats, "b")
        await say(chats, "calm", "a", "hello")
        for start in range(0, MAX_BEHIND, 250):
            await asyncio.gather(*(post(chats, "loud", "a", f"t{n}") for n in range(start, start + 250)))
        pages = await rest(chats, at, 500)
        told = [message.chat_id for page in pages for message in page.messages]
        assert (told.count("loud"), told.count("calm")) == (MAX_BEHIND, 1)
        assert not any(page.reset for page in pages)
        await say(chats, "loud", "a", "one too many")
        [page] = await rest(chats, at)
        assert (page.reset, [message.chat_id for message in page.messages]) == (["loud"], ["calm"])
        assert sorted(view.chat.id for view in page.chats) == ["calm", "loud"]

    # Search

    async def test_search_finds_words_and_beginnings_newest_first(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        chats = metadata.chats
        await group(chats, "a", "b", chat_id="g1")
        await group(chats, "c", chat_id="g2")
        for text in ("Green tea, please", "teapot is green", "coffee", "a green TEA"):
            await say(chats, "g1", "a", text)
        await say(chats, "g2", "c", "green tea of others")

        async def found(query: str, chat_id: str | None = None, **bounds: int) -> list[str]:
            hits = await chats.search("b", query, chat_id, bounds.get("before"), bounds.get("limit", 10))
            return [hit.message.text for hit in hits]

        assert await found("green tea") == ["a green TEA", "teapot is green", "Green tea, please"]
        assert await found("tea green") == ["a green TEA", "Green tea, please"]
        assert await found("teap") == ["teapot is green"]
        assert await found("gre tea") == []  # only the last word may be a beginning
        assert await found("green", "g1", limit=1) == ["a green TEA"]
        first = (await chats.search("b", "green", None, None, 1))[0]
        assert await found("green", before=first.position) == ["teapot is green", "Green tea, please"]

    async def test_search_follows_edits_and_deletions(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        await group(chats, "a")
        early, late = await say(chats, "g", "a", "alpha"), await say(chats, "g", "a", "beta")

        async def found(query: str) -> list[str]:
            return [hit.message.id for hit in await chats.search("a", query, None, None, 10)]

        await chats.edit("g", early.id, "a", "gamma", NOW)  # before it is indexed
        assert (await found("alpha"), await found("gamma")) == ([], [early.id])
        await chats.edit("g", early.id, "a", "delta", NOW)  # after
        assert (await found("gamma"), await found("delta")) == ([], [early.id])
        await chats.delete_message("g", late.id, "a", NOW)
        assert await found("beta") == []

    @pytest.mark.parametrize(
        "query",
        [
            '"',
            "'",
            "*",
            "a OR b",
            "text:x",
            "NEAR(a b)",
            "a AND NOT b",
            "^a",
            "(",
            "-a",
            "a\x00b",
            "{x}:y",
            "\ud800".encode("utf-8", "replace").decode(),
            "🙂",
            'a*b"c',
        ],
    )
    async def test_no_query_is_anything_but_words(self, metadata: Metadata, query: str) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        await group(chats, "a")
        await say(chats, "g", "a", "nothing of it")
        assert await chats.search("a", query, None, None, 10) == []

    async def test_hindi_words_are_found_whole_and_by_their_beginning(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        await group(chats, "a")
        await say(chats, "g", "a", "नमस्ते, आप कैसे हैं?")
        await say(chats, "g", "a", "किताबें मेज़ पर हैं")

        async def found(query: str) -> list[str]:
            return [hit.message.text[:6] for hit in await chats.search("a", query, None, None, 10)]

        assert await found("नमस्ते") == ["नमस्ते"]
        assert await found("किता") == ["किताबे"]
        assert await found("कैसे हैं") == ["नमस्ते"]
        assert await found("स") == []  # a letter inside a word is no word
        assert await found("कत") == []  # other vowel signs make another word
        assert await found("मेज\u093c") == ["किताबे"]  # composed and decomposed letters are the same
        assert await found("नमस\u094d\u200dते") == ["नमस्ते"]  # joiners are typed or left out at will

    # Upkeep

    async def test_an_account_that_ends_leaves_its_chats_and_its_words_without_a_name(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        chats = metadata.chats
        await group(chats, "a", "b", "c")
        await chats.create_direct("a", "b", "d", NOW)
        saved = await chats.ensure_saved("a", "s", NOW)
        for chat_id in ("g", "d", saved):
            await say(chats, chat_id, "a", f"in {chat_id}")
        at = await synced(chats, "b")
        numbers = iter(range(100))
        left = [change async for change in chats.forget_user("a", lambda: f"n{next(numbers)}", NOW)]
        assert sorted(change.audience.chat_id if change else "" for change in left) == ["", "", "g"]
        assert ("forget_user", "a") in await chats.pending_jobs()
        while await chats.forget_sender("a", 1):
            pass
        while await chats.purge(saved, 1):
            pass
        assert await chats.pending_jobs() == []
        assert await chats.list_chats("a", False, None, 10) == []
        assert await texts(chats, "g", "b") == ["in g"]
        changed = {m.chat_id: m for page in await rest(chats, at) for m in page.messages if m.kind == "text"}
        assert {chat_id: m.sender_id for chat_id, m in changed.items()} == {"g": None, "d": None}
        owner = await chats.get_member("g", "b")
        assert owner is not None
        assert owner.role == "owner"
        # What was cut off is begun again.
        assert [change async for change in chats.forget_user("a", lambda: "unused", NOW)] == []
