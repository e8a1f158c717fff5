"""What every backend's `Accounts` must do, also when calls come together."""

from __future__ import annotations

import asyncio

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import (
    Accounts,
    GuessLimit,
    InviteRecord,
    NewSession,
    NewUser,
    PictureRecord,
    SessionUse,
    UserPatch,
    UserRecord,
)
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.server import AuditEntry

NOW = 1_800_000_000_000
GRACE_MS = 60_000


def new_user(name: str, *, is_admin: bool = False) -> NewUser:
    return NewUser(
        id=f"u-{name}",
        email=f"{name}@Example.org",
        email_key=f"{name}@example.org",
        username=name,
        display_name=name.title(),
        name_key=name,
        password_hash=f"hash of {name}",
        is_admin=is_admin,
    )


def new_session(session_id: str, user_id: str) -> NewSession:
    return NewSession(id=session_id, user_id=user_id, device="phone", ip="192.0.2.1", salt=b"s" * 16)


def entry(audit_id: str, action: str = "test") -> AuditEntry:
    return AuditEntry(id=audit_id, at=NOW, actor_id=None, action=action, target="", detail="")


def invite(
    invite_id: str,
    *,
    max_uses: int = 1,
    expires_at: int | None = None,
    makes_admin: bool = False,
) -> InviteRecord:
    return InviteRecord(
        id=invite_id,
        makes_admin=makes_admin,
        max_uses=max_uses,
        uses=0,
        created_by=None,
        created_at=NOW,
        expires_at=expires_at,
    )


async def add(accounts: Accounts, name: str, *, is_admin: bool = False, session: str | None = None) -> UserRecord:
    user = new_user(name, is_admin=is_admin)
    return await accounts.create_user(
        user, now_ms=NOW, session=None if session is None else new_session(session, user.id)
    )


async def refused(code: str, call: object) -> None:
    with pytest.raises(HyperSendError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code == code


class AccountsConformance:
    """A test class derives from it; its fixture `metadata` is an open, empty backend."""

    async def test_a_new_person_has_a_first_session(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        user = await add(accounts, "alice", session="s1")
        live = await accounts.live_session("s1")
        assert live is not None
        assert live.user == user
        assert (live.session.generation, live.session.used_at, live.session.salt) == (1, None, b"s" * 16)
        found = await accounts.credentials("alice@example.org")
        assert found is not None
        assert found == (user, "hash of alice")
        assert user.email == "alice@Example.org"

    async def test_email_and_username_are_unique(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        same_mail = new_user("alice")
        await refused("email_taken", accounts.create_user(same_mail, now_ms=NOW))
        other = NewUser(
            id="u2",
            email="b@x.org",
            email_key="b@x.org",
            username="alice",
            display_name="B",
            name_key="b",
            password_hash="h",  # noqa: S106
        )
        await refused("username_taken", accounts.create_user(other, now_ms=NOW, session=new_session("s9", "u2")))
        assert await accounts.live_session("s9") is None

    async def test_an_invite_serves_as_often_as_it_says_even_at_once(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await accounts.add_invite(invite("i1", max_uses=3), b"code", entry("a1"))
        answers = await asyncio.gather(
            *(accounts.create_user(new_user(f"p{number}"), now_ms=NOW, invite_hash=b"code") for number in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, UserRecord) for answer in answers) == 3
        assert {answer.code for answer in answers if isinstance(answer, HyperSendError)} == {"invite_invalid"}
        assert [i.uses for i in await accounts.list_invites(before_id=None, limit=9)] == [3]

    async def test_a_refused_registration_does_not_use_the_invite_up(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        await accounts.add_invite(invite("i1"), b"code", entry("a1"))
        await refused("email_taken", accounts.create_user(new_user("alice"), now_ms=NOW, invite_hash=b"code"))
        await accounts.create_user(new_user("bob"), now_ms=NOW, invite_hash=b"code")

    async def test_expired_and_unknown_invites_are_refused(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await accounts.add_invite(invite("i1", expires_at=NOW), b"code", entry("a1"))
        assert await accounts.get_invite(b"code", now_ms=NOW - 1) is not None
        assert await accounts.get_invite(b"code", now_ms=NOW) is None
        await refused("invite_invalid", accounts.create_user(new_user("bob"), now_ms=NOW, invite_hash=b"code"))
        await refused("invite_invalid", accounts.create_user(new_user("bob"), now_ms=NOW, invite_hash=b"other"))
        await accounts.delete_invite("i1", entry("a2"))
        await refused("not_found", accounts.delete_invite("i1", entry("a3")))
        assert [found.id for found in await metadata.server.list_audit(None, 9)] == ["a2", "a1"]

    async def test_the_first_invite_makes_one_administrator_and_is_then_void(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        assert await accounts.renew_first_invite(b"one", now_ms=NOW)
        assert await accounts.renew_first_invite(b"two", now_ms=NOW)
        await refused("invite_invalid", accounts.create_user(new_user("eve"), now_ms=NOW, invite_hash=b"one"))
        user = await accounts.create_user(new_user("alice"), now_ms=NOW, invite_hash=b"two")
        assert user.is_admin
        await refused("invite_invalid", accounts.create_user(new_user("bob"), now_ms=NOW, invite_hash=b"two"))
        assert not await accounts.renew_first_invite(b"three", now_ms=NOW)
        assert await accounts.get_invite(b"three", now_ms=NOW) is None

    async def test_the_first_invite_is_void_once_somebody_else_made_an_administrator(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await accounts.renew_first_invite(b"one", now_ms=NOW)
        assert len(await accounts.list_invites(before_id=None, limit=10)) == 1
        await add(accounts, "root", is_admin=True)
        await accounts.add_invite(invite("i1"), b"more", entry("a1"))
        await accounts.add_invite(invite("a0"), b"less", entry("a2"))  # behind the first one, in their order
        assert [one.id for one in await accounts.list_invites(before_id=None, limit=2)] == ["i1", "a0"]
        assert await accounts.get_invite(b"one", now_ms=NOW) is None
        await refused("invite_invalid", accounts.create_user(new_user("eve"), now_ms=NOW, invite_hash=b"one"))

    async def test_refreshing_twice_at_once_gives_one_and_the_same_next_pair(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        answers = await asyncio.gather(
            *(accounts.refresh("s1", 1, now_ms=NOW + 5, grace_ms=GRACE_MS, ip="") for _ in range(4))
        )
        assert sorted(answer.outcome for answer in answers) == ["repeated"] * 3 + ["rotated"]
        assert {answer.session and answer.session.generation for answer in answers} == {2}
        assert {answer.session and answer.session.rotated_at for answer in answers} == {NOW + 5}

    async def test_the_token_before_is_good_until_a_minute_after_the_new_pair_was_used(
        self, metadata: Metadata
    ) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.refresh("s1", 1, now_ms=NOW, grace_ms=GRACE_MS, ip="")
        late = NOW + 10 * 86_400_000
        assert (await accounts.refresh("s1", 1, now_ms=late, grace_ms=GRACE_MS, ip="")).outcome == "repeated"
        await accounts.note_uses([SessionUse("s1", 2, late, ""), SessionUse("s1", 2, late + 50_000, "")])
        last = late + GRACE_MS - 1
        assert (await accounts.refresh("s1", 1, now_ms=last, grace_ms=GRACE_MS, ip="")).outcome == "repeated"
        assert (await accounts.refresh("s1", 1, now_ms=last + 1, grace_ms=GRACE_MS, ip="")).outcome == "reused"
        assert (await accounts.refresh("s1", 2, now_ms=last + 1, grace_ms=GRACE_MS, ip="")).outcome == "ended"
        assert await accounts.live_session("s1") is None

    async def test_one_browser_keeps_a_session_and_its_refresh_tokens_are_void(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        answers = await asyncio.gather(
            *(accounts.keep_web_session("s1", "u-alice", bytes([number]) * 32) for number in range(4))
        )
        assert sorted(answers) == [False, False, False, True]
        live = await accounts.live_session("s1")
        assert live is not None
        assert (live.session.kind, live.session.web_secret) == ("web", bytes([answers.index(True)]) * 32)
        assert (await accounts.refresh("s1", 1, now_ms=NOW, grace_ms=GRACE_MS, ip="")).outcome == "ended"
        assert await accounts.live_session("s1") == live

    async def test_an_ended_session_and_anothers_are_not_kept(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await add(accounts, "bob", session="s2")
        assert not await accounts.keep_web_session("s1", "u-bob", b"h" * 32)
        assert not await accounts.keep_web_session("nothing", "u-bob", b"h" * 32)
        await accounts.end_sessions("u-bob", now_ms=NOW)
        assert not await accounts.keep_web_session("s2", "u-bob", b"h" * 32)
        for session_id in ("s1", "s2"):
            session = await accounts.get_session(session_id)
            assert session is not None
            assert session.kind == "device"

    async def test_use_of_an_older_pair_does_not_start_the_minute(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.refresh("s1", 1, now_ms=NOW, grace_ms=GRACE_MS, ip="")
        await accounts.note_uses([SessionUse("s1", 1, NOW, "192.0.2.9")])
        found = await accounts.refresh("s1", 1, now_ms=NOW + 2 * GRACE_MS, grace_ms=GRACE_MS, ip="192.0.2.9")
        assert found.outcome == "repeated"

    async def test_a_token_two_pairs_old_ends_the_session(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        for generation in (1, 2):
            await accounts.refresh("s1", generation, now_ms=NOW, grace_ms=GRACE_MS, ip="")
        assert (await accounts.refresh("s1", 1, now_ms=NOW, grace_ms=GRACE_MS, ip="")).outcome == "reused"
        assert await accounts.list_sessions("u-alice", before_id=None, limit=9) == []

    async def test_use_is_noted_and_never_goes_back(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.note_uses([SessionUse("s1", 1, NOW + 9, "192.0.2.7"), SessionUse("s1", 1, NOW + 3, "192.0.2.8")])
        live = await accounts.live_session("s1")
        assert live is not None
        assert (live.session.last_seen_at, live.session.ip, live.session.used_at) == (NOW + 9, "192.0.2.7", NOW + 9)
        assert live.user.last_seen_at == NOW + 9
        await accounts.note_uses([SessionUse("s1", 1, NOW + 20, "")])
        again = await accounts.get_session("s1")
        assert again is not None
        assert (again.last_seen_at, again.ip) == (NOW + 20, "192.0.2.7")
        await accounts.set_last_seen({"u-alice": NOW + 1})
        assert (await accounts.get_user("u-alice")).last_seen_at == NOW + 20  # type: ignore[union-attr]

    async def test_sessions_end_one_by_one_all_but_one_and_all(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await add(accounts, "bob", session="b1")
        for session_id in ("s2", "s3", "s4"):
            await accounts.create_session(new_session(session_id, "u-alice"), now_ms=NOW)
        assert await accounts.end_sessions("u-alice", now_ms=NOW, only_id="b1") == []
        assert await accounts.end_sessions("u-alice", now_ms=NOW, only_id="s2") == ["s2"]
        assert await accounts.end_sessions("u-alice", now_ms=NOW, only_id="s2") == []
        assert await accounts.end_sessions("u-alice", now_ms=NOW, except_id="s4") == ["s1", "s3"]
        assert [s.id for s in await accounts.list_sessions("u-alice", before_id=None, limit=9)] == ["s4"]
        assert await accounts.end_sessions("u-alice", now_ms=NOW) == ["s4"]
        assert await accounts.live_session("b1") is not None

    async def test_sessions_are_listed_newest_first_in_pages(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        for session_id in ("s2", "s3"):
            await accounts.create_session(new_session(session_id, "u-alice"), now_ms=NOW)
        assert [s.id for s in await accounts.list_sessions("u-alice", before_id=None, limit=2)] == ["s3", "s2"]
        assert [s.id for s in await accounts.list_sessions("u-alice", before_id="s2", limit=2)] == ["s1"]

    async def test_others_learn_of_ends_and_changes_by_stamp(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        before = await accounts.changed_since(None)
        assert (before.ended, before.users) == ([], [])
        await accounts.note_uses([SessionUse("s1", 1, NOW, "")])
        assert await accounts.changed_since(before.stamp) == before
        await accounts.end_sessions("u-alice", now_ms=NOW)
        await accounts.update_profile("u-alice", about="hello")
        found = await accounts.changed_since(before.stamp)
        assert (found.ended, found.users) == ([("s1", "u-alice")], ["u-alice"])
        again = await accounts.changed_since(found.stamp)
        assert (again.ended, again.users) == ([], [])

    async def test_a_password_changes_only_from_the_one_that_was_checked(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.create_session(new_session("s2", "u-alice"), now_ms=NOW)
        change = {"new_hash": "new", "keep_session_id": "s2", "now_ms": NOW}
        assert await accounts.set_password("u-alice", old_hash="wrong", **change) is None  # type: ignore[arg-type]
        assert await accounts.set_password("u-alice", old_hash="hash of alice", **change) == ["s1"]  # type: ignore[arg-type]
        found = await accounts.credentials_of("u-alice")
        assert found is not None
        assert found.password_hash == "new"  # noqa: S105
        await accounts.replace_hash("u-alice", "old", "newer")
        assert await accounts.credentials_of("u-alice") == found

    async def test_a_reset_code_works_once_and_ends_all_sessions(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.add_reset("u-alice", b"first", expires_at=NOW + 10, audit=entry("a1"))
        await accounts.add_reset("u-alice", b"second", expires_at=NOW + 10, audit=entry("a2"))
        assert await accounts.get_reset(b"first", now_ms=NOW) is None
        assert await accounts.get_reset(b"second", now_ms=NOW + 10) is None
        assert await accounts.get_reset(b"second", now_ms=NOW) == "u-alice"
        assert await accounts.use_reset(b"second", "new", now_ms=NOW + 10) is None
        answers = await asyncio.gather(*(accounts.use_reset(b"second", f"new{n}", now_ms=NOW) for n in range(3)))
        assert sorted(answers, key=str) == [("u-alice", ["s1"]), None, None]
        await refused("not_found", accounts.add_reset("nobody", b"x", expires_at=NOW, audit=entry("a3")))

    async def test_changing_the_password_voids_reset_codes(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        await accounts.add_reset("u-alice", b"code", expires_at=NOW + 10, audit=entry("a1"))
        await accounts.set_password("u-alice", old_hash="hash of alice", new_hash="n", keep_session_id=None, now_ms=NOW)
        assert await accounts.get_reset(b"code", now_ms=NOW) is None

    async def test_disabling_ends_sessions_and_lets_no_new_one_begin(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        account, ended = await accounts.patch_user(
            "u-alice", UserPatch(disabled=True, quota_bytes=5), now_ms=NOW, audit=entry("a1")
        )
        assert ended == ["s1"]
        assert (account.user.disabled, account.user.quota_bytes, account.sessions) == (True, 5, 0)
        await refused("account_disabled", accounts.create_session(new_session("s2", "u-alice"), now_ms=NOW))
        account, ended = await accounts.patch_user("u-alice", UserPatch(disabled=False), now_ms=NOW, audit=entry("a2"))
        assert (account.user.disabled, account.user.quota_bytes, ended) == (False, 5, [])
        account, _ = await accounts.patch_user("u-alice", UserPatch(quota_bytes=None), now_ms=NOW, audit=entry("a3"))
        assert account.user.quota_bytes is None
        await refused("not_found", accounts.patch_user("nobody", UserPatch(), now_ms=NOW, audit=entry("a4")))
        assert [found.id for found in await metadata.server.list_audit(None, 9)] == ["a3", "a2", "a1"]

    async def test_the_last_administrator_stays(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", is_admin=True)
        await add(accounts, "bob", is_admin=True)
        patches = (UserPatch(is_admin=False), UserPatch(disabled=True))
        answers = await asyncio.gather(
            accounts.patch_user("u-alice", patches[0], now_ms=NOW, audit=entry("a1")),
            accounts.patch_user("u-bob", patches[1], now_ms=NOW, audit=entry("a2")),
            return_exceptions=True,
        )
        assert [getattr(answer, "code", "done") for answer in answers].count("last_admin") == 1
        left = "u-alice" if isinstance(answers[0], HyperSendError) else "u-bob"
        await refused("last_admin", accounts.begin_deletion(left, now_ms=NOW))
        assert len(await metadata.server.list_audit(None, 9)) == 1

    async def test_a_deleted_account_is_gone_in_two_steps_that_may_be_repeated(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await add(accounts, "bob")
        await accounts.set_avatar("u-alice", PictureRecord("p1", "image/jpeg", b"jpeg"))
        await accounts.block("u-bob", "u-alice", now_ms=NOW)
        await accounts.finish_deletion("u-bob")
        assert (await accounts.get_user("u-bob")).username == "bob"  # type: ignore[union-attr]
        assert await accounts.begin_deletion("u-alice", now_ms=NOW) == ["s1"]
        assert await accounts.begin_deletion("u-alice", now_ms=NOW + 1) == []
        assert await accounts.credentials("alice@example.org") is None
        assert await accounts.unfinished_deletions() == ["u-alice"]
        for _ in range(2):
            await accounts.finish_deletion("u-alice")
        assert await accounts.unfinished_deletions() == []
        user = await accounts.get_user("u-alice")
        assert user is not None
        assert (user.email, user.username, user.display_name, user.avatar_id, user.deleted_at) == (
            None,
            None,
            "",
            None,
            NOW,
        )
        assert await accounts.get_picture("p1") is None
        assert await accounts.list_blocks("u-bob", after_id="", limit=9) == []
        assert [account.user.id for account in await accounts.list_accounts(after_id="", limit=9)] == ["u-bob"]
        assert (await accounts.get_session("s1")).ip == ""  # type: ignore[union-attr]
        await refused("not_found", accounts.create_session(new_session("s2", "u-alice"), now_ms=NOW))
        again = new_user("alice")
        await accounts.create_user(
            NewUser(
                id="u-new",
                email=again.email,
                email_key=again.email_key,
                username=again.username,
                display_name="A",
                name_key="a",
                password_hash="h",  # noqa: S106
            ),
            now_ms=NOW,
        )

    async def test_a_new_avatar_replaces_the_old_one(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        before = (await accounts.get_user("u-alice")).changed  # type: ignore[union-attr]
        await accounts.set_avatar("u-alice", PictureRecord("p1", "image/jpeg", b"one"))
        user = await accounts.set_avatar("u-alice", PictureRecord("p2", "image/webp", b"two"))
        assert user.avatar_id == "p2"
        assert user.changed > before
        assert await accounts.get_picture("p1") is None
        assert await accounts.get_picture("p2") == PictureRecord("p2", "image/webp", b"two")
        assert (await accounts.set_avatar("u-alice", None)).avatar_id is None
        assert await accounts.get_picture("p2") is None

    async def test_a_profile_changes_in_part(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        await accounts.update_profile("u-alice", display_name="Alicia", name_key="alicia")
        user = await accounts.update_profile("u-alice", about="text")
        assert (user.display_name, user.about) == ("Alicia", "text")
        assert (await accounts.update_profile("u-alice", about="")).about == ""
        await refused("not_found", accounts.update_profile("nobody", about=""))

    async def test_search_is_by_prefix_and_email_only_whole(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        for name in ("viewer", "anna", "anton", "ante%", "bob"):
            await add(accounts, name)
        await accounts.update_profile("u-bob", name_key="ann b")

        async def found(text: str, *, email: str = "", after: str = "", limit: int = 9) -> list[str | None]:
            views = await accounts.search_users(
                "u-viewer", username_prefix=text, name_prefix=text, email_key=email, after=after, limit=limit
            )
            return [view.user.username for view in views]

        assert await found("an") == ["anna", "ante%", "anton", "bob"]
        assert await found("an", limit=2) == ["anna", "ante%"]
        assert await found("an", after="ante%") == ["anton", "bob"]
        assert await found("ante%") == ["ante%"]
        assert await found("%") == []
        assert await found("") == []
        assert await found("", email="bob@example.org") == ["bob"]
        assert await found("x", email="bob@example.or") == []

    async def test_search_leaves_out_disabled_deleted_and_blocked(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        for name in ("viewer", "xa", "xb", "xc", "xd", "xe"):
            await add(accounts, name)
        await accounts.patch_user("u-xa", UserPatch(disabled=True), now_ms=NOW, audit=entry("a1"))
        await accounts.begin_deletion("u-xb", now_ms=NOW)
        await accounts.block("u-viewer", "u-xc", now_ms=NOW)
        await accounts.block("u-xd", "u-viewer", now_ms=NOW)
        views = await accounts.search_users(
            "u-viewer", username_prefix="x", name_prefix="x", email_key="", after="", limit=9
        )
        assert [view.user.username for view in views] == ["xe"]

    async def test_presence_is_for_oneself_and_not_for_strangers(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice")
        await add(accounts, "bob")
        views = await accounts.view_users(["u-alice", "u-bob", "u-nobody"], "u-alice")
        assert {user_id: view.presence_visible for user_id, view in views.items()} == {"u-alice": True, "u-bob": False}
        assert await accounts.view_users([], "u-alice") == {}

    async def test_many_people_are_viewed_at_once(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await asyncio.gather(*(add(accounts, f"p{number}") for number in range(40)))
        views = await accounts.view_users([f"u-p{number}" for number in range(1200)], "u-p0")
        assert len(views) == 40

    async def test_blocks_are_listed_and_taken_back(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        for name in ("alice", "bob", "carol"):
            await add(accounts, name)
        for _ in range(2):
            await accounts.block("u-alice", "u-carol", now_ms=NOW)
        await accounts.block("u-alice", "u-bob", now_ms=NOW)
        await refused("not_found", accounts.block("u-alice", "nobody", now_ms=NOW))
        listed = await accounts.list_blocks("u-alice", after_id="", limit=9)
        assert [view.user.id for view in listed] == ["u-bob", "u-carol"]
        after = await accounts.list_blocks("u-alice", after_id="u-bob", limit=9)
        assert [view.user.id for view in after] == ["u-carol"]
        await accounts.unblock("u-alice", "u-bob")
        await accounts.unblock("u-alice", "u-bob")
        assert len(await accounts.list_blocks("u-alice", after_id="", limit=9)) == 1

    async def test_waits_double_after_the_free_failures(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        limit = GuessLimit("k", 3, 10)
        waits = []
        for _ in range(6):
            await accounts.guess_failed([limit], now_ms=NOW, forget_after_ms=1000)
            waits.append(await accounts.guess_wait([limit], now_ms=NOW))
        assert waits == [0, 0, 2000, 4000, 8000, 10_000]
        assert await accounts.guess_wait([limit, GuessLimit("other", 3, 10)], now_ms=NOW + 9_999) == 1
        assert await accounts.guess_wait([limit], now_ms=NOW + 10_000) <= 0
        await accounts.guess_failed([limit], now_ms=NOW + 1001, forget_after_ms=1000)
        await accounts.guess_failed([limit], now_ms=NOW + 2003, forget_after_ms=1000)
        assert await accounts.guess_wait([limit], now_ms=NOW + 20_000) <= 0
        await accounts.guess_succeeded(["k"], now_ms=NOW)
        assert await accounts.guess_wait([limit], now_ms=NOW) == 0

    async def test_failures_at_once_are_all_counted(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        for n in range(10):
            limit = GuessLimit(f"k{n}", 5, 900)
            await asyncio.gather(*(accounts.guess_failed([limit], now_ms=NOW, forget_after_ms=1000) for _ in range(7)))
            assert await accounts.guess_wait([limit], now_ms=NOW) == 8000

    async def test_known_keys_and_failures_are_forgotten_at_their_own_times(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        limit = GuessLimit("failed", 1, 900)
        await add(accounts, "alice", session="s1")
        await accounts.end_sessions("u-alice", now_ms=NOW)
        await accounts.guess_failed([limit], now_ms=NOW, forget_after_ms=10**9)
        await accounts.guess_succeeded([], now_ms=NOW, remember="known")
        await accounts.tidy(guesses_before=NOW + 1, known_before=NOW, sessions_before=NOW, now_ms=NOW)
        assert await accounts.is_known("known")
        assert await accounts.guess_wait([limit], now_ms=NOW) == 0
        assert await accounts.get_session("s1") is not None
        await accounts.tidy(guesses_before=NOW, known_before=NOW + 1, sessions_before=NOW + 1, now_ms=NOW)
        assert not await accounts.is_known("known")
        assert await accounts.get_session("s1") is None

    async def test_stats_count_what_is_there(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", is_admin=True, session="s1")
        await add(accounts, "bob")
        await accounts.patch_user("u-bob", UserPatch(disabled=True), now_ms=NOW, audit=entry("a1"))
        stats = await accounts.stats()
        assert (stats.users, stats.disabled_users, stats.administrators, stats.sessions) == (2, 1, 1, 1)
        assert (stats.chats, stats.messages, stats.files, stats.file_bytes, stats.uploads) == (0, 0, 0, 0, 0)

    async def test_a_device_key_is_kept_with_its_session(self, metadata: Metadata) -> None:
        accounts = metadata.accounts
        await add(accounts, "alice", session="s1")
        await accounts.set_device_key("s1", "key")
        assert (await accounts.get_session("s1")).device_key == "key"  # type: ignore[union-attr]
