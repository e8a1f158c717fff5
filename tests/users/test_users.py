"""Profiles, blocks, administration and the end of an account: the services over real SQLite."""

from __future__ import annotations

from pathlib import Path

from hypersend_server.metadata.sqlite.engine import Tx
from hypersend_server.users.types import NewInvite, PatchMe, PatchUser
from tests.auth.parts import HERE, PASSWORD, Rooms, refused, rooms


async def share_a_chat(room: Rooms, *user_ids: str) -> None:
    chat_id, *_ = user_ids

    def job(tx: Tx) -> None:
        for user_id in user_ids:
            tx.execute(
                "INSERT INTO members (chat_id, user_id, role, joined_at, began, changed)"
                " VALUES (?, ?, 'member', 0, 0, 0)",
                (chat_id, user_id),
            )

    await room.metadata.engine.write(job)


async def test_a_profile_is_changed_in_part_and_cleared_by_null(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = (await room.register("alice")).user.id
        me = await room.users.update_me(alice, PatchMe(display_name=" Ali\u0301 ", about="line\nline"))
        assert (me.display_name, me.about) == ("Al\u00ed", "line\nline")
        me = await room.users.update_me(alice, PatchMe(about=None))
        assert (me.display_name, me.about) == ("Al\u00ed", "")
        assert await room.users.me(alice) == me


async def test_search_folds_case_width_and_spaces(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice, bob = (await room.register("alice")).user.id, (await room.register("bob")).user.id
        await room.users.update_me(bob, PatchMe(display_name="Ｂöb   Straße"))

        async def found(text: str) -> list[str]:
            return [user.id for user in (await room.users.search(alice, text, None, 50)).items]

        for text in ("BO", "@bob", "böb s", "bÖB  STRASS", "BOB@example.org"):
            assert await found(text) == [bob], text
        for text in ("ob", "bob@example", "@", "  ", "%", "_"):
            assert await found(text) == [], text
        first = await room.users.search(alice, "bob", None, 1)
        assert first.next_cursor is None


async def test_presence_is_seen_by_who_shares_a_chat_and_is_not_blocked_either_way(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice, bob, eve = [(await room.register(name)).user.id for name in ("alice", "bob", "eve")]
        await share_a_chat(room, alice, bob)
        room.online.update((alice, bob))
        await room.metadata.accounts.set_last_seen({bob: room.clock.now})

        async def sees(viewer: str, other: str) -> tuple[bool, bool]:
            user = (await room.presenter.users([other], viewer))[other]
            assert (other in await room.presenter.visible(viewer, [other])) is user.online
            return user.online, user.last_seen_at is not None

        assert await sees(alice, bob) == (True, True)
        assert await sees(eve, bob) == (False, False)
        await room.users.block(bob, alice)
        assert await sees(alice, bob) == (False, False)
        assert await sees(bob, alice) == (False, False)
        assert [user.id for user in (await room.users.blocks(bob, None, 9)).items] == [alice]
        await room.users.unblock(bob, alice)
        assert await sees(alice, bob) == (True, True)
        await refused("validation_failed", room.users.block(bob, bob))


async def test_storage_tells_the_quota_that_holds(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = (await room.register("alice")).user.id
        use = await room.users.storage(alice)
        assert (use.used_bytes, use.reserved_bytes, use.files, use.quota_bytes) == (10, 20, 3, 1000)
        await room.admin.patch_user(None, alice, PatchUser(quota_bytes=0))
        assert (await room.users.storage(alice)).quota_bytes == 0
        await room.admin.patch_user(None, alice, PatchUser(quota_bytes=None))
        assert (await room.users.storage(alice)).quota_bytes == 1000


async def test_deleting_an_account_takes_a_password_and_says_what_went(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        alice, bob = session.user.id, (await room.register("bob")).user.id
        await refused("password_wrong", room.users.delete_me(alice, "wrong"))
        deleted = await room.users.delete_me(alice, PASSWORD)
        assert deleted.removed == {"sessions": 1, "groups_left": 2, "files": 3}
        assert room.ended == [session.session_id]
        await refused("session_ended", room.present(session.access_token))
        await refused("credentials_invalid", room.login("alice"))
        await refused("not_found", room.users.get(bob, alice))
        shown = (await room.presenter.users([alice], bob))[alice]
        assert (shown.username, shown.display_name, shown.about, shown.avatar_url) == (None, "", "", None)
        await room.register("alice")  # the names are free again


async def test_a_deletion_that_was_cut_off_is_finished_later(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = (await room.register("alice")).user.id
        room.files.fails = True
        await refused("metadata_unavailable", room.users.delete_me(alice, PASSWORD))
        await refused("credentials_invalid", room.login("alice"))
        await room.deletion.resume()
        assert await room.metadata.accounts.unfinished_deletions() == [alice]
    async with rooms(tmp_path) as room:  # the next start
        await room.deletion.resume()
        assert room.chats.seen == room.files.seen == [alice]
        assert await room.metadata.accounts.unfinished_deletions() == []
        await room.deletion.resume()
        assert room.files.seen == [alice]


async def test_every_change_by_an_administrator_is_in_the_audit_trail(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        root = await room.operator.add_user("root@example.org", "root", PASSWORD, is_admin=True)
        alice = (await room.register("alice")).user.id
        await room.admin.patch_user(root.id, alice, PatchUser(disabled=True, quota_bytes=None))
        invite = await room.admin.add_invite(root.id, NewInvite(makes_admin=True))
        await room.admin.delete_invite(root.id, invite.id)
        await refused("not_found", room.admin.delete_invite(root.id, invite.id))
        await refused("last_admin", room.admin.patch_user(root.id, root.id, PatchUser(is_admin=False)))
        await refused("last_admin", room.admin.delete_user(root.id, root.id))
        await room.admin.delete_user(root.id, alice)
        await refused("not_found", room.admin.delete_user(root.id, alice))
        items = (await room.admin.audit(None, 50)).items
        assert [(item.action, item.target, item.actor_id) for item in items] == [
            ("user.delete", alice, root.id),
            ("invite.delete", invite.id, root.id),
            ("invite.add", invite.id, root.id),
            ("user.change", alice, root.id),
            ("user.add", root.id, None),
        ]
        assert items[3].detail == '{"disabled":true,"quota_bytes":null}'
        page = await room.admin.audit(None, 2)
        rest = await room.admin.audit(page.next_cursor, 50)
        assert [*page.items, *rest.items] == items


async def test_the_list_of_accounts_says_what_an_operator_asks(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        await room.login("alice", address=HERE)
        page = await room.admin.list_users(None, 1)
        assert page.next_cursor is None
        item = page.items[0]
        assert (item.id, item.email, item.sessions, item.used_bytes, item.disabled) == (
            alice.user.id,
            "alice@example.org",
            2,
            0,
            False,
        )
        assert (await room.admin.find_user("ALICE@example.org")).id == alice.user.id
        await refused("not_found", room.admin.find_user("nobody@example.org"))


async def test_rights_are_taken_and_given_at_once(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.operator.add_user("root@example.org", "root", PASSWORD, is_admin=True)
        session = await room.register("alice")
        alice = session.user.id
        for is_admin in (True, False):
            await room.present(session.access_token)
            await room.admin.patch_user(None, alice, PatchUser(is_admin=is_admin))
            assert (await room.live.require(session.session_id, alice)).is_admin is is_admin
