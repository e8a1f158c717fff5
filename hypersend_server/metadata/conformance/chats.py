"""What every backend's `Chats` must do with chats, members and messages, also when calls come together."""

from __future__ import annotations

import asyncio

from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import (
    ChatPosition,
    Draft,
)
from hypersend_server.metadata.conformance.chats_people import (
    NOW,
    group,
    people,
    post,
    refused,
    rest,
    say,
    synced,
    texts,
)


class ChatsConformance:
    """Tests of `metadata.chats`; `metadata` is an open, empty backend."""

    # Chats

    async def test_a_pair_has_one_direct_chat_also_when_both_begin_it_at_once(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        found = await asyncio.gather(
            *(metadata.chats.create_direct(*pair, f"c{n}", NOW) for n, pair in enumerate([("a", "b"), ("b", "a")] * 4))
        )
        assert len({chat_id for chat_id, _, _ in found}) == 1
        assert sum(made for _, made, _ in found) == 1

    async def test_the_chat_with_oneself_is_made_once(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        found = await asyncio.gather(*(metadata.chats.ensure_saved("a", f"c{n}", NOW) for n in range(5)))
        assert len(set(found)) == 1
        view = await metadata.chats.get_chat(found[0], "a")
        assert view is not None
        assert (view.chat.kind, view.me.role) == ("saved", "owner")

    async def test_a_direct_chat_with_nobody_is_refused(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        await refused("not_found", metadata.chats.create_direct("a", "nobody", "c", NOW))
        await refused("not_found", metadata.chats.create_group("a", ["nobody"], "t", "all", "c", "m", NOW))
        assert await metadata.chats.list_chats("a", False, None, 10) == []

    async def test_who_is_blocked_neither_begins_a_chat_nor_writes(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        chats = metadata.chats
        chat_id, _, _ = await chats.create_direct("a", "b", "ab", NOW)
        said = await say(chats, chat_id, "b", "before")
        for other in ("b", "c"):
            await metadata.accounts.block("a", other, now_ms=NOW)
        await refused("blocked", chats.create_direct("c", "a", "ac", NOW))
        await refused("blocked", post(chats, chat_id, "b", "after"))
        await refused("blocked", chats.edit(chat_id, said.id, "b", "after", NOW))
        await refused("blocked", chats.react(chat_id, said.id, "b", "👍", True))
        assert not (await post(chats, chat_id, "b", "before")).created  # what was accepted stays accepted
        await group(chats, "a", "b")
        assert await say(chats, "g", "b", "groups go on")
        await metadata.accounts.unblock("a", "b")
        assert await say(chats, chat_id, "b", "after")

    async def test_ones_own_side_of_a_direct_chat_goes_until_a_new_message(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        chat_id, _, _ = await chats.create_direct("a", "b", "ab", NOW)
        old = await say(chats, chat_id, "b", "old")
        at = await synced(chats, "a")
        assert await chats.delete_chat(chat_id, "a", NOW) == ["a"]
        assert await chats.get_chat(chat_id, "a") is None
        assert await texts(chats, chat_id, "b") == ["old"]
        assert [page.gone for page in await rest(chats, at)] == [[chat_id]]
        at = await synced(chats, "a")
        posted = await post(chats, chat_id, "b", "new")
        assert posted.reopened == ("a",)
        assert dict(posted.audience.members or ()) == {"a": 2, "b": 1}
        assert posted.audience.is_direct
        assert await texts(chats, chat_id, "a") == ["new"]
        assert await chats.get_message(chat_id, old.id, "a") is None
        [page] = await rest(chats, at)
        assert page.reset == [chat_id]
        assert [view.unread for view in page.chats] == [1]

    async def test_writing_first_opens_ones_own_side_again(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        chat_id, _, _ = await chats.create_direct("a", "b", "ab", NOW)
        await say(chats, chat_id, "b", "old")
        await chats.delete_chat(chat_id, "a", NOW)
        await refused("not_found", post(chats, chat_id, "a", "hello"))
        assert (await chats.create_direct("a", "b", "other", NOW))[:2] == (chat_id, False)
        await say(chats, chat_id, "a", "hello")
        assert await texts(chats, chat_id, "a") == ["hello"]

    async def test_chats_are_listed_pinned_first_then_by_newest_message(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        for n in range(5):
            await chats.create_group("a", [], "t", "all", f"g{n}", f"m{n}", NOW + n)
        await chats.append(Draft(id="x", chat_id="g1", sender_id="a", client_id="x", text="x", now=NOW + 9), -1)
        await chats.set_own("g0", "a", {"pinned": True})
        await chats.set_own("g4", "a", {"archived": True})
        listed: list[str] = []
        after = None
        while views := await chats.list_chats("a", False, after, 2):
            listed += [view.chat.id for view in views]
            after = ChatPosition(views[-1].me.pinned, views[-1].chat.updated_at, views[-1].chat.id)
        assert listed == ["g0", "g1", "g3", "g2"]
        assert [view.chat.id for view in await chats.list_chats("a", True, None, 10)] == ["g4"]

    async def test_a_group_that_its_owner_deletes_is_gone_for_all(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        await say(chats, "g", "b", "hello")
        at = await synced(chats, "b")
        await refused("not_allowed", chats.delete_chat("g", "b", NOW))
        assert sorted(await chats.delete_chat("g", "a", NOW)) == ["a", "b"]
        assert [page.gone for page in await rest(chats, at)] == [["g"]]
        assert await chats.pending_jobs() == [("purge_chat", "g")]
        while await chats.purge("g", 1):
            pass
        assert await chats.pending_jobs() == []
        assert await chats.search("b", "hello", None, None, 10) == []

    # Members

    async def test_rights_of_owner_admins_and_members(self, metadata: Metadata) -> None:
        await people(metadata, *"oamn")
        chats = metadata.chats
        await group(chats, "o", "a", "m")
        await chats.set_role("g", "o", "a", "admin", "r1", NOW)
        await refused("not_allowed", chats.add_members("g", "m", ["n"], "x", NOW))
        await refused("not_allowed", chats.update_group("g", "m", {"title": "Mine"}, None, "x", NOW))
        await refused("not_allowed", chats.set_role("g", "a", "m", "admin", "x", NOW))
        await refused("not_allowed", chats.remove_member("g", "m", "a", "x", NOW))
        await refused("not_allowed", chats.remove_member("g", "a", "o", "x", NOW))
        await refused("not_found", chats.remove_member("g", "a", "n", "x", NOW))
        await refused("owner_required", chats.set_role("g", "o", "o", "member", "x", NOW))
        await chats.update_group("g", "a", {"title": "Chai"}, None, "t", NOW)
        added = await chats.add_members("g", "a", ["n", "m"], "n1", NOW)
        assert added.message is not None
        assert added.message.extra.system == {"event": "member_added", "actor_id": "a", "user_ids": ["n"]}
        removed = await chats.remove_member("g", "a", "n", "n2", NOW)
        assert removed.gone == ("n",)
        view = await chats.get_chat("g", "o")
        assert view is not None
        assert (view.chat.title, view.chat.members_count, view.chat.seq) == ("Chai", 3, 5)

    async def test_handing_over_and_leaving(self, metadata: Metadata) -> None:
        await people(metadata, *"oabc")
        chats = metadata.chats
        await group(chats, "o", "a", "b")
        await chats.add_members("g", "o", ["c"], "n", NOW + 1)
        await chats.set_role("g", "o", "b", "owner", "r", NOW)
        member = await chats.get_member("g", "o")
        assert member is not None
        assert member.role == "admin"
        left = await chats.remove_member("g", "b", "b", "l1", NOW)  # an owner who leaves: the oldest admin
        assert left.message is not None
        assert left.message.extra.system == {
            "event": "member_left",
            "actor_id": "b",
            "user_ids": ["b"],
            "new_owner_id": "o",
        }
        await chats.remove_member("g", "o", "o", "l2", NOW)  # no admin is left: the oldest member
        member = await chats.get_member("g", "a")
        assert member is not None
        assert member.role == "owner"
        await chats.remove_member("g", "a", "a", "l3", NOW)
        assert (await chats.remove_member("g", "c", "c", "l4", NOW)).message is None
        assert ("purge_chat", "g") in await chats.pending_jobs()

    async def test_a_removed_member_loses_everything_at_once(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        said = await say(chats, "g", "a", "secret")
        await chats.remove_member("g", "a", "b", "x", NOW)
        for call in (
            post(chats, "g", "b", "hello"),
            chats.edit("g", said.id, "b", "x", NOW),
            chats.react("g", said.id, "b", "👍", True),
            chats.hide("g", said.id, "b"),
            chats.messages_by_seq("g", "b", 10),
            chats.messages_after_rev("g", "b", 0, 10),
            chats.list_members("g", "b", "", 10),
            chats.set_marks("g", "b", 1, 1, -1),
            chats.search("b", "secret", "g", None, 10),
            chats.audience("g", "b"),
        ):
            await refused("not_found", call)
        assert await chats.get_chat("g", "b") is None
        assert await chats.get_message("g", said.id, "b") is None
        assert await chats.search("b", "secret", None, None, 10) == []

    async def test_who_comes_back_begins_where_the_history_says(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        for chat_id, history in (("g1", "all"), ("g2", "since_join")):
            await group(chats, "a", "b", chat_id=chat_id, history=history)  # type: ignore[arg-type]
            await say(chats, chat_id, "a", "old")
            await chats.remove_member(chat_id, "a", "b", f"{chat_id}x", NOW)
            await chats.add_members(chat_id, "a", ["b"], f"{chat_id}y", NOW)
            await say(chats, chat_id, "a", "new")
        assert await texts(chats, "g1", "b") == ["old", "new"]
        assert await texts(chats, "g2", "b") == ["new"]

    async def test_a_group_has_room_for_a_thousand(self, metadata: Metadata) -> None:
        names = [f"p{n:04d}" for n in range(1001)]
        await asyncio.gather(*(people(metadata, name) for name in names))
        await group(metadata.chats, names[0], *names[1:1000])
        await refused("chat_full", metadata.chats.add_members("g", names[0], [names[1000]], "x", NOW))

    # Messages

    async def test_seq_and_rev_have_no_holes_whoever_writes_when(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        await asyncio.gather(*(post(chats, "g", "ab"[n % 2], f"text {n}") for n in range(60)))
        page = await chats.messages_by_seq("g", "a", 200)
        assert [message.seq for message in page.messages] == list(range(1, 62))
        assert [message.rev for message in page.messages] == list(range(1, 62))
        assert page.rev == 61

    async def test_a_client_id_that_comes_again_gives_the_first_message(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        found = await asyncio.gather(*(post(chats, "g", "a", f"take {n}", client_id="same") for n in range(8)))
        assert sum(posted.created for posted in found) == 1
        assert len({posted.message.id for posted in found}) == 1
        assert (await post(chats, "g", "b", "mine", client_id="same")).created  # unique per sender
        assert len(await texts(chats, "g", "a")) == 2

    async def test_who_is_known_is_not_told_again(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a")
        audience = (await post(chats, "g", "a", "one")).audience
        assert not audience.is_direct
        draft = Draft(id="m2", chat_id="g", sender_id="a", client_id="2", text="two", now=NOW)
        assert (await chats.append(draft, audience.members_rev)).audience.members is None
        await chats.add_members("g", "a", ["b"], "n", NOW)
        draft = Draft(id="m3", chat_id="g", sender_id="a", client_id="3", text="three", now=NOW)
        assert dict((await chats.append(draft, audience.members_rev)).audience.members or ()) == {"a": 1, "b": 1}

    async def test_only_its_sender_edits_a_message(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        made = await group(chats, "a", "b")
        assert made.message is not None
        said = await say(chats, "g", "b", "tee")
        await refused("not_allowed", chats.edit("g", said.id, "a", "x", NOW))
        await refused("not_allowed", chats.edit("g", made.message.id, "a", "x", NOW))
        await refused("validation_failed", chats.edit("g", said.id, "b", " \u200b", NOW))
        changed = await chats.edit("g", said.id, "b", "tea", NOW + 5)
        assert (changed.message.text, changed.message.rev, changed.message.edited_at) == ("tea", 3, NOW + 5)
        assert not (await chats.edit("g", said.id, "b", "tea", NOW + 6)).changed
        page = await chats.messages_after_rev("g", "a", 2, 10)
        assert ([message.text for message in page.messages], page.rev) == (["tea"], 3)

    async def test_a_message_deleted_for_everyone_keeps_its_place_only(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        chats = metadata.chats
        await group(chats, "a", "b", "c")
        said = await say(chats, "g", "b", "oops")
        await chats.react("g", said.id, "c", "👍", True)
        await refused("not_allowed", chats.delete_message("g", said.id, "c", NOW))
        gone = (await chats.delete_message("g", said.id, "a", NOW)).message  # an owner may, too
        assert (gone.seq, gone.text, gone.deleted_at, gone.extra.reactions) == (said.seq, "", NOW, ())
        assert not (await chats.delete_message("g", said.id, "b", NOW)).changed
        await refused("message_deleted", chats.edit("g", said.id, "b", "x", NOW))
        await refused("message_deleted", chats.react("g", said.id, "b", "👍", True))
        view = await chats.get_chat("g", "c")
        assert view is not None
        assert view.unread == 0

    async def test_a_message_deleted_for_oneself_is_gone_everywhere_for_oneself_only(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        said = await say(chats, "g", "a", "spoiler")
        at = await synced(chats, "b")
        assert await chats.hide("g", said.id, "b")
        assert not await chats.hide("g", said.id, "b")
        assert await texts(chats, "g", "b") == []
        assert await texts(chats, "g", "a") == ["spoiler"]
        assert await chats.get_message("g", said.id, "b") is None
        assert await chats.search("b", "spoiler", None, None, 10) == []
        assert (await chats.messages_after_rev("g", "b", 0, 10)).rev == 2
        view = await chats.get_chat("g", "b")
        assert view is not None
        assert (view.unread, view.last_message and view.last_message.kind) == (0, "system")
        [page] = await rest(chats, at)
        assert page.hidden == [("g", said.id)]
        await chats.edit("g", said.id, "a", "another spoiler", NOW)
        assert [m for page in await rest(chats, page.position) for m in page.messages] == []

    async def test_reactions_come_and_go_and_have_a_limit(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", "b")
        said = await say(chats, "g", "a", "hi")
        for emoji in "👍🎉🙏":
            await chats.react("g", said.id, "b", emoji, True)
        await refused("reaction_limit", chats.react("g", said.id, "b", "🔥", True))
        await chats.react("g", said.id, "a", "🎉", True)
        assert not (await chats.react("g", said.id, "a", "🎉", True)).changed
        changed = await chats.react("g", said.id, "b", "👍", False)
        assert [(r.emoji, r.user_ids) for r in changed.message.extra.reactions] == [
            ("🎉", ("b", "a")),
            ("🙏", ("b",)),
        ]
        assert not (await chats.react("g", said.id, "b", "👍", False)).changed

    async def test_what_lies_before_ones_time_is_neither_seen_nor_quoted_nor_forwarded(
        self, metadata: Metadata
    ) -> None:
        await people(metadata, "a", "b")
        chats = metadata.chats
        await group(chats, "a", history="since_join")
        old = await say(chats, "g", "a", "before")
        await chats.add_members("g", "a", ["b"], "n", NOW)
        chat_id = await chats.ensure_saved("b", "s", NOW)
        assert await chats.get_message("g", old.id, "b") is None
        await refused("not_found", post(chats, "g", "b", "re", reply_to=old.id))
        await refused("not_found", post(chats, chat_id, "b", "", client_id="f", forward=("g", old.id)))
        await refused("not_found", chats.react("g", old.id, "b", "👍", True))
        await refused("not_found", chats.hide("g", old.id, "b"))
        assert await chats.search("b", "before", None, None, 10) == []
        await chats.edit("g", old.id, "a", "before, edited", NOW)
        page = await chats.messages_after_rev("g", "b", 0, 10)
        assert ([message.kind for message in page.messages], page.rev) == (["system"], 4)
        assert [message.seq for message in (await chats.messages_by_seq("g", "b", 10, before=3)).messages] == []

    async def test_a_forward_names_who_said_it_first(self, metadata: Metadata) -> None:
        await people(metadata, "a", "b", "c")
        chats = metadata.chats
        await group(chats, "a", "b", chat_id="g1")
        await group(chats, "b", "c", chat_id="g2")
        await group(chats, "c", chat_id="g3")
        first = await say(chats, "g1", "a", "news")
        second = await say(chats, "g2", "b", "", client_id="f", forward=("g1", first.id))
        third = await say(chats, "g3", "c", "", client_id="f", forward=("g2", second.id))
        assert third.text == "news"
        assert third.extra.forwarded_from is not None
        assert third.extra.forwarded_from.sender_id == "a"
        await refused("not_allowed", chats.edit("g3", third.id, "c", "fake news", NOW))
        await refused("not_found", post(chats, "g3", "c", "", client_id="x", forward=("g1", first.id)))
        await chats.delete_message("g2", second.id, "b", NOW)
        await refused("message_deleted", post(chats, "g3", "c", "", client_id="y", forward=("g2", second.id)))

    async def test_pages_of_messages_go_both_ways(self, metadata: Metadata) -> None:
        await people(metadata, "a")
        chats = metadata.chats
        await group(chats, "a")
        for n in range(9):
            await say(chats, "g", "a", f"t{n}")

        async def seqs(**bounds: int) -> list[int]:
            return [message.seq for message in (await chats.messages_by_seq("g", "a", 3, **bounds)).messages]

        assert await seqs() == [8, 9, 10]
        assert await seqs(before=8) == [5, 6, 7]
        assert await seqs(before=2) == [1]
        assert await seqs(after=0) == [1, 2, 3]
        assert await seqs(after=9) == [10]
        page = await chats.messages_after_rev("g", "a", 4, 3)
        assert ([message.rev for message in page.messages], page.rev) == ([5, 6, 7], 7)
