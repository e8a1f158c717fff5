"""Registering, signing in, passwords, sessions: the service over real SQLite, with a clock that tests move."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hypersend_server.auth import guesses as limits
from hypersend_server.auth import service
from hypersend_server.auth.live_sessions import LiveSessions
from hypersend_server.auth.types import Register
from hypersend_server.errors import HyperSendError
from hypersend_server.limits import network_of
from hypersend_server.users.types import NewInvite, PatchUser
from tests.auth.parts import HERE, PASSWORD, Rooms, refused, rooms

ELSEWHERE = "203.0.113.5"


async def fail(room: Rooms, name: str, times: int, address: str = HERE) -> list[str]:
    codes = []
    for _ in range(times):
        with pytest.raises(HyperSendError) as caught:
            await room.login(name, "wrong password", address=address)
        codes.append(caught.value.code)
    return codes


async def test_email_and_username_are_known_without_case(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.auth.register(Register(email="Zoë@Example.ORG", username="Zoe_1", password=PASSWORD), HERE)
        assert (session.user.username, session.user.display_name, session.user.email) == (
            "zoe_1",
            "zoe_1",
            "Zoë@Example.ORG",
        )
        again = Register(email="ZOË@example.org", username="other", password=PASSWORD)
        await refused("email_taken", room.auth.register(again, HERE))
        again = Register(email="other@example.org", username="ZOE_1", password=PASSWORD)
        await refused("username_taken", room.auth.register(again, HERE))


async def test_registration_by_invite_and_closed(tmp_path: Path) -> None:
    async with rooms(tmp_path, registration="invite") as room:
        await refused("invite_required", room.register("alice"))
        await refused("invite_invalid", room.register("alice", invite="0000-0000"))
        code = await room.operator.ensure_first_invite()
        assert code is not None
        admin = await room.register("alice", invite=code.upper().replace("-", " "))
        assert admin.user.is_admin
        assert await room.operator.ensure_first_invite() is None
        invite = await room.admin.add_invite(admin.user.id, NewInvite(max_uses=1))
        assert invite.code is not None
        bob = await room.register("bob", invite=invite.code)
        assert not bob.user.is_admin
        await refused("invite_invalid", room.register("carol", invite=invite.code))
        late = await room.admin.add_invite(admin.user.id, NewInvite(expires_in=60))
        room.clock.advance(60)
        await refused("invite_invalid", room.register("carol", invite=late.code))


async def test_closed_registration_lets_only_an_administrators_invite_in(tmp_path: Path) -> None:
    async with rooms(tmp_path, registration="closed") as room:
        code = await room.operator.ensure_first_invite()
        await refused("registration_closed", room.register("alice"))
        admin = await room.register("alice", invite=code)
        invite = await room.admin.add_invite(admin.user.id, NewInvite())
        await refused("registration_closed", room.register("bob", invite=invite.code))


async def test_a_wrong_password_and_an_unknown_account_look_alike_and_cost_a_hash_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        verified: list[str] = []
        context = room.auth._passwords._context
        verify = context.verify_and_update

        def counted(password: str, stored: str) -> object:
            verified.append(stored[:40].rsplit("$", 1)[0])
            return verify(password, stored)

        monkeypatch.setattr(context, "verify_and_update", counted)
        known = await refused("credentials_invalid", room.login("alice", "wrong password"))
        unknown = await refused("credentials_invalid", room.login("nobody", "wrong password"))
        assert known.detail == unknown.detail
        assert len(verified) == 2
        assert verified[0] == verified[1] == "$bcrypt-sha256$v=2,t=2b,r=4"


async def test_a_disabled_account_is_named_only_to_its_owner(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        session = await room.register("alice")
        await room.admin.patch_user(None, session.user.id, PatchUser(disabled=True))
        assert room.ended == [session.session_id]
        await refused("session_ended", room.present(session.access_token))
        await refused("credentials_invalid", room.login("alice", "wrong password"))
        await refused("account_disabled", room.login("alice"))


async def test_guesses_at_an_account_wait_longer_and_longer_whether_it_exists_or_not(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        for name in ("alice", "nobody"):
            assert await fail(room, name, 7) == ["credentials_invalid"] * 5 + ["rate_limited"] * 2
            for wait_s in (2, 4, 8):
                error = await refused("rate_limited", room.login(name, "wrong password"))
                assert error.retry_after_s == wait_s
                room.clock.advance(wait_s)
                assert await fail(room, name, 1) == ["credentials_invalid"]
        await refused("rate_limited", room.login("alice"))  # the right one waits too


async def test_waits_survive_a_restart_and_end_at_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        for _ in range(16):
            await fail(room, "alice", 1)
            room.clock.advance(900)
        await fail(room, "alice", 1)
        now = room.clock.now
    async with rooms(tmp_path) as room:
        room.clock.now = now
        assert (await refused("rate_limited", room.login("alice", "x"))).retry_after_s == 900


async def test_success_clears_the_account(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        for _ in range(3):
            await fail(room, "alice", 4)
            await room.login("alice")


async def test_a_hundred_guesses_at_once_get_no_more_than_five(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        answers = await asyncio.gather(*(room.login("alice", f"wrong {n}") for n in range(100)), return_exceptions=True)
        codes = [answer.code for answer in answers if isinstance(answer, HyperSendError)]
        assert codes.count("credentials_invalid") == 5
        assert codes.count("rate_limited") == 95


async def test_many_devices_of_one_person_may_sign_in_at_once(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        sessions = await asyncio.gather(*(room.login("alice") for _ in range(12)))
        assert len({session.session_id for session in sessions}) == 12


async def test_an_address_that_guesses_at_many_accounts_is_slowed(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        codes = [(await fail(room, f"name{number}", 1, ELSEWHERE))[0] for number in range(22)]
        assert codes == ["credentials_invalid"] * limits.ADDRESS_FREE + ["rate_limited"] * 2
        room.clock.advance(limits.SHARED_CAP_S)
        assert await fail(room, "more", 1, ELSEWHERE) == ["credentials_invalid"]


async def test_guesses_at_many_accounts_at_once_are_hardly_more_than_in_a_row(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        for number in range(limits.ADDRESS_FREE):
            await fail(room, f"name{number}", 1, ELSEWHERE)
        room.clock.advance(limits.SHARED_CAP_S)
        found = await asyncio.gather(*(fail(room, f"more{number}", 1, ELSEWHERE) for number in range(40)))
        codes = [code for codes in found for code in codes]
        assert 1 <= codes.count("credentials_invalid") <= limits.NETWORK_AT_ONCE
        assert codes.count("rate_limited") >= 40 - limits.NETWORK_AT_ONCE


async def test_who_usually_signs_in_from_there_is_not_locked_out_by_others_behind_the_address(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        await room.login("alice")
        for number in range(30):
            await fail(room, f"name{number}", 1)
        await refused("rate_limited", room.login("nobody"))
        await room.login("alice")


async def test_who_usually_signs_in_from_home_is_not_locked_out_by_guesses_from_elsewhere(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        await room.register("alice")
        await room.login("alice")
        await fail(room, "alice", 9, ELSEWHERE)
        await refused("rate_limited", room.login("alice", address=ELSEWHERE))
        await room.login("alice")
        # Being known is no licence to guess.
        assert (await fail(room, "alice", 6))[-1] == "rate_limited"
        # And success at home gives no fresh tries to whoever guesses elsewhere.
        await refused("rate_limited", room.login("alice", "wrong password", address=ELSEWHERE))


async def test_registering_is_slowed_by_address(tmp_path: Path) -> None:
    async with rooms(tmp_path, registration="invite") as room:
        for _ in range(limits.ADDRESS_FREE):
            await refused("invite_invalid", room.register("alice", invite="guess"))
        await refused("rate_limited", room.register("alice", invite="guess"))
        await refused("invite_invalid", room.register("alice", invite="guess", address=ELSEWHERE))


def test_an_ipv6_subscriber_is_one_address() -> None:
    assert network_of("2001:db8:1:2:aaaa::1") == network_of("2001:db8:1:2:bbbb::2")
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""


async def test_sessions_are_listed_with_the_present_one_marked(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        first = await room.register("alice")
        room.clock.advance(5)
        second = await room.login("alice", address=ELSEWHERE)
        page = await room.auth.list_sessions(first.user.id, second.session_id, None, 1)
        assert [(item.id, item.ip, item.current) for item in page.items] == [(second.session_id, ELSEWHERE, True)]
        rest = await room.auth.list_sessions(first.user.id, second.session_id, page.next_cursor, 1)
        assert [(item.id, item.device, item.current) for item in rest.items] == [(first.session_id, "phone", False)]
        assert rest.next_cursor is None
        await refused("cursor_invalid", room.auth.list_sessions(first.user.id, "", "%%%", 1))


async def test_a_session_ends_by_its_owner_only(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice, bob = await room.register("alice"), await room.register("bob")
        await refused("not_found", room.auth.end_session(bob.user.id, alice.session_id))
        await room.present(alice.access_token)
        await room.auth.end_session(alice.user.id, alice.session_id)
        assert room.ended == [alice.session_id]
        await refused("session_ended", room.present(alice.access_token))
        await refused("session_ended", room.auth.refresh(alice.refresh_token, HERE))
        await room.auth.logout(alice.user.id, alice.session_id)


async def test_changing_the_password_ends_the_others(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice, other = await room.register("alice"), await room.login("alice")
        change = room.auth.change_password
        await refused("password_wrong", change(alice.user.id, alice.session_id, "wrong", "another password"))
        await change(alice.user.id, alice.session_id, PASSWORD, "another password")
        assert room.ended == [other.session_id]
        await room.present(alice.access_token)
        await refused("credentials_invalid", room.login("alice"))
        await room.login("alice", "another password")


async def test_guessing_the_password_with_a_stolen_token_is_limited(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        for _ in range(5):
            await refused("password_wrong", room.auth.check_password(alice.user.id, "wrong"))
        await refused("rate_limited", room.auth.check_password(alice.user.id, PASSWORD))


async def test_a_reset_code_sets_a_password_once(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        await refused("not_found", room.operator.create_reset("nobody@example.org"))
        code = await room.operator.create_reset("ALICE@example.org")
        await refused("reset_invalid", room.auth.reset_password("wrong-code", "another password", HERE))
        await room.auth.reset_password(code, "another password", HERE)
        assert room.ended == [alice.session_id]
        await refused("reset_invalid", room.auth.reset_password(code, "third password", HERE))
        await room.login("alice", "another password")
        late = await room.operator.create_reset("alice@example.org")
        room.clock.advance(86_400)
        await refused("reset_invalid", room.auth.reset_password(late, "third password", HERE))


async def test_an_operator_adds_people_within_the_limits(tmp_path: Path) -> None:
    async with rooms(tmp_path, registration="closed") as room:
        error = await refused("validation_failed", room.operator.add_user("a@b", "x", PASSWORD))
        assert error.errors[0]["field"] == "username"
        await refused("validation_failed", room.operator.add_user("a@b", "alice", "short"))
        await room.operator.add_user("alice@example.org", "alice", PASSWORD, is_admin=True)
        assert (await room.login("alice")).user.is_admin
        assert [item.action for item in (await room.admin.audit(None, 9)).items] == ["user.add"]


async def test_what_a_command_beside_the_server_ends_is_found_by_polling(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice, bob = await room.register("alice"), await room.register("bob")
        await room.present(alice.access_token)
        await room.metadata.accounts.end_sessions(alice.user.id, now_ms=room.clock.now)
        await room.live.poll()
        assert room.ended == [alice.session_id]
        await refused("session_ended", room.present(alice.access_token))
        await room.present(bob.access_token)
        await room.live.poll()
        assert room.ended == [alice.session_id]


async def test_what_this_process_ended_itself_is_not_published_twice(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        await room.auth.logout(alice.user.id, alice.session_id)
        await room.live.poll()
        assert room.ended == [alice.session_id]


async def test_polling_happens_by_itself(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        ended = asyncio.Event()
        room.bus.subscribe(lambda event: ended.set())
        live = LiveSessions(room.metadata.accounts, room.bus, room.clock, poll_s=0.01)
        await live.start()
        await room.metadata.accounts.end_sessions(alice.user.id, now_ms=room.clock.now)
        async with asyncio.timeout(10):
            await ended.wait()
        await live.close()


async def test_a_session_that_ends_while_it_is_looked_up_is_not_remembered(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")
        real = room.metadata.accounts.live_session
        looked_up, go_on = asyncio.Event(), asyncio.Event()

        async def slow(session_id: str) -> object:
            found = await real(session_id)
            looked_up.set()
            await go_on.wait()
            return found

        room.metadata.accounts.live_session = slow  # type: ignore[method-assign,assignment]
        looking = asyncio.create_task(room.live.require(alice.session_id, alice.user.id))
        await looked_up.wait()
        await room.auth.logout(alice.user.id, alice.session_id)
        go_on.set()
        await looking
        await refused("session_ended", room.live.require(alice.session_id, alice.user.id))


async def test_last_seen_moves_once_a_minute(tmp_path: Path) -> None:
    async with rooms(tmp_path) as room:
        alice = await room.register("alice")

        async def seen_at() -> int:
            await room.live.flush()
            stored = await room.metadata.accounts.get_session(alice.session_id)
            assert stored is not None
            return stored.last_seen_at

        for wait_s, moves in ((1, True), (30, False), (30, True)):
            room.clock.advance(wait_s)
            await room.present(alice.access_token)
            assert (await seen_at() == room.clock.now) is moves


async def test_of_too_many_sessions_the_one_that_was_away_the_longest_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_SESSIONS", 4)
    async with rooms(tmp_path) as room:
        mine = [await room.register("alice")]
        other = await room.register("bob")
        for _ in range(3):
            room.clock.advance(120)
            mine.append(await room.login("alice"))
        room.clock.advance(120)
        await room.present(mine[0].access_token)  # the oldest, and in use
        await room.live.flush()
        room.clock.advance(120)
        newest = await room.login("alice")
        assert room.ended == [mine[1].session_id]
        await refused("session_ended", room.present(mine[1].access_token))
        for session in (mine[0], mine[2], mine[3], newest, other):
            assert (await room.auth.refresh(session.refresh_token, HERE)).session_id == session.session_id
        found = await room.auth.list_sessions(newest.user.id, newest.session_id, None, 100)
        assert len(found.items) == 4
