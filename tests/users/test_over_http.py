"""What a client sees of accounts: status codes, error codes, headers, limits."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import PASSWORD, SettableClock, running


def png(side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(out, "PNG")
    return out.getvalue()


async def test_a_person_registers_signs_in_refreshes_and_signs_out(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice", device="Pixel 9")
        assert alice.session["token_type"] == "Bearer"
        assert 890 < alice.session["expires_in"] <= 900
        me = (await alice.get("/users/me")).json
        assert me == alice.session["user"]
        assert (me["email"], me["username"], me["is_admin"], me["avatar_url"]) == (
            "alice@example.org",
            "alice",
            False,
            None,
        )
        refreshed = await server.post("/auth/refresh", {"refresh_token": alice.session["refresh_token"]})
        assert refreshed.status == 200
        assert refreshed.json["session_id"] == alice.session["session_id"]
        newer = server.signed_in(refreshed.json)
        sessions = (await newer.get("/auth/sessions")).json["items"]
        assert [(item["device"], item["ip"], item["current"]) for item in sessions] == [("Pixel 9", "127.0.0.1", True)]
        assert (await newer.post("/auth/logout")).status == 204
        gone = await newer.get("/users/me")
        assert (gone.status, gone.code) == (401, "session_ended")
        assert gone.headers["WWW-Authenticate"] == "Bearer"
        again = await server.login("ALICE@example.org")
        assert again.id == alice.id


async def test_tokens_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        alice = await server.person("alice")
        for header, code in {
            "": "unauthenticated",
            "Basic YTpi": "unauthenticated",
            "Bearer": "unauthenticated",
            "Bearer x": "token_invalid",
            f"Bearer {alice.token}x": "token_invalid",
            f"Bearer {alice.session['refresh_token']}": "token_invalid",
            f"bearer  {alice.token}": None,
            "Bearer " + "x" * 5000: "token_invalid",
        }.items():
            answer = await server.get("/users/me", headers={"Authorization": header} if header else {})
            assert answer.code == code, header
        clock.advance(15 * 60 + 1)
        answer = await alice.get("/users/me")
        assert (answer.status, answer.code, answer.json["retryable"]) == (401, "token_expired", True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no at sign"),
        ("email", "two@at@signs"),
        ("email", "a@" + "b" * 260),
        ("email", "a@b\n"),
        ("username", "ab"),
        ("username", "a" * 33),
        ("username", "with space"),
        ("username", "наташа"),
        ("username", "alice\n"),
        ("password", "short"),
        ("password", "x" * 257),
        ("display_name", " "),
        ("display_name", "\u200b"),
        ("display_name", "\u3164"),
        ("display_name", "x" * 61),
        ("display_name", "a\u202eb"),
        ("display_name", "a\0b"),
        ("device", "x" * 101),
        ("email", 7),
        ("surname", "unknown field"),
    ],
)
async def test_what_is_out_of_bounds_names_the_field(tmp_path: Path, field: str, value: object) -> None:
    async with running(tmp_path) as server:
        answer = await server.post(
            "/auth/register", {"email": "alice@example.org", "username": "alice", "password": PASSWORD, field: value}
        )
        assert (answer.status, answer.code) == (422, "validation_failed")
        assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize("name", ["श्री राम", "👩‍👩‍👧 family", "محمد", "Zoë O’Neil", "x" * 60])
async def test_names_in_any_script_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as server:
        assert (await server.person("alice", display_name=name)).session["user"]["display_name"] == name


async def test_null_and_absent_are_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice", display_name=None, invite=None, device=None)
        assert alice.session["user"]["display_name"] == "alice"


async def test_guessing_is_answered_with_429_and_a_time(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.person("alice")
        guess = {"email": "alice@example.org", "password": "wrong password"}
        answers = [await server.post("/auth/login", guess) for _ in range(6)]
        assert [answer.code for answer in answers] == ["credentials_invalid"] * 5 + ["rate_limited"]
        assert (answers[5].status, answers[5].headers["Retry-After"]) == (429, "2")


async def test_each_forwarded_client_is_counted_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        guess = {"email": "x@example.org", "password": "wrong password"}
        for number in range(21):
            answer = await server.post(
                "/auth/login", {**guess, "email": f"x{number}@example.org"}, headers={"X-Forwarded-For": "198.51.100.7"}
            )
        assert answer.code == "rate_limited"
        other = await server.post("/auth/login", guess, headers={"X-Forwarded-For": "198.51.100.8"})
        assert other.code == "credentials_invalid"


async def test_limits_can_be_turned_off(tmp_path: Path) -> None:
    async with running(tmp_path, RATE_LIMITS="off") as server:
        guess = {"email": "alice@example.org", "password": "wrong password"}
        assert {(await server.post("/auth/login", guess)).code for _ in range(8)} == {"credentials_invalid"}


async def test_revoking_a_device_closes_its_sockets_within_a_second(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        phone = await server.person("alice")
        laptop = await server.login(phone.email)
        socket = await phone.socket()
        assert (await laptop.delete(f"/auth/sessions/{phone.session['session_id']}")).status == 204
        assert await socket.close_code(timeout_s=1) == 4503
        assert (await phone.get("/users/me")).code == "session_ended"
        assert (await laptop.delete(f"/auth/sessions/{phone.session['session_id']}")).status == 404


async def test_a_new_password_signs_other_devices_out(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        other = await server.login(alice.email)
        socket = await other.socket()
        wrong = await alice.put("/auth/password", {"current_password": "x", "new_password": "another password"})
        assert (wrong.status, wrong.code) == (403, "password_wrong")
        right = {"current_password": PASSWORD, "new_password": "another password"}
        assert (await alice.put("/auth/password", right)).status == 204
        assert await socket.close_code(timeout_s=1) == 4503
        assert (await alice.get("/users/me")).status == 200
        await server.login(alice.email, "another password")


async def test_device_keys_are_32_bytes(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        assert (await alice.put("/auth/device-key", {"public_key": "A" * 43})).status == 204
        for key in ("A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "+", "A" * 43 + "\n"):
            assert (await alice.put("/auth/device-key", {"public_key": key})).status == 422


async def test_an_avatar_is_shown_under_a_signed_path(tmp_path: Path) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        answer = await alice.put("/users/me/avatar", data=png(), headers={"Content-Type": "image/png"})
        assert answer.status == 200
        path = answer.json["avatar_url"]
        assert (await bob.get(f"/users/{alice.id}")).json["avatar_url"] == path
        shown = await server.get(path)
        assert (shown.status, shown.headers["Content-Type"]) == (200, "image/jpeg")
        assert "private, max-age=" in shown.headers["Cache-Control"]
        assert "sandbox" in shown.headers["Content-Security-Policy"]
        assert (await server.get(path + "&utm=1")).status == 200
        for wrong in (path[:-1] + ("A" if path[-1] != "A" else "B"), path.replace("?e=", "?e=9"), path.split("&")[0]):
            assert (await server.get(wrong)).status in (404, 422)
        clock.advance(2 * 86_400)
        assert (await server.get(path)).code == "ticket_invalid"
        clock.advance(-2 * 86_400)
        assert (await alice.delete("/users/me/avatar")).status == 204
        assert (await server.get(path)).status == 404
        assert (await alice.get("/users/me")).json["avatar_url"] is None


async def test_a_bad_avatar_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        not_one = await alice.put("/users/me/avatar", data=b"<svg/>", headers={"Content-Type": "image/png"})
        assert (not_one.status, not_one.code) == (422, "picture_invalid")
        large = await alice.put("/users/me/avatar", data=b"x" * (2 * 1024 * 1024 + 1))
        assert (large.status, large.code) == (413, "body_too_large")
        assert (await alice.get("/users/me")).json["avatar_url"] is None


async def test_others_see_neither_email_nor_rights(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        shown = (await bob.get(f"/users/{alice.id}")).json
        assert set(shown) == {"id", "username", "display_name", "about", "avatar_url", "last_seen_at", "online"}
        found = (await bob.get("/users?q=ali")).json
        assert found["items"] == [shown]
        for path in ("/users/nobody", "/users/" + "x" * 300):
            assert (await bob.get(path)).status == 404
        assert (await bob.get("/users")).status == 422
        assert (await bob.get("/users?q=a&cursor=%20")).code == "cursor_invalid"


async def test_presence_reaches_who_shares_a_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice, bob, eve = [await server.person(name) for name in ("alice", "bob", "eve")]
        assert (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).status == 201
        socket = await bob.socket()
        assert (await alice.get(f"/users/{bob.id}")).json["online"] is True
        assert (await eve.get(f"/users/{bob.id}")).json["online"] is False
        assert (await bob.put(f"/users/me/blocks/{alice.id}")).status == 204
        assert (await alice.get(f"/users/{bob.id}")).json["online"] is False
        assert [user["id"] for user in (await bob.get("/users/me/blocks")).json["items"]] == [alice.id]
        assert (await bob.delete(f"/users/me/blocks/{alice.id}")).status == 204
        await socket.close()


async def test_an_account_ends_and_says_what_went(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        group = (await bob.post("/chats", {"kind": "group", "title": "Tea", "member_ids": [alice.id]})).json
        sent = await alice.post(f"/chats/{group['id']}/messages", {"client_id": "c1", "text": "hello"})
        assert sent.status == 201
        socket = await alice.socket()
        wrong = await alice.delete("/users/me", {"password": "wrong password"})
        assert (wrong.status, wrong.code) == (403, "password_wrong")
        gone = await alice.delete("/users/me", {"password": PASSWORD})
        assert gone.status == 200, gone
        assert gone.json["removed"]["messages_without_sender"] == 1
        assert await socket.close_code(timeout_s=1) == 4503
        messages = (await bob.get(f"/chats/{group['id']}/messages")).json["items"]
        assert [(m["text"], m["sender_id"]) for m in messages if m["kind"] == "text"] == [("hello", None)]
        assert (await bob.get(f"/users/{alice.id}")).status == 404
        await server.person("alice")


async def test_the_administrators_calls_are_for_administrators(tmp_path: Path) -> None:
    async with running(tmp_path, REGISTRATION="invite") as server:
        invite = await first_invite(server.app)
        refused = await server.post(
            "/auth/register", {"email": "x@example.org", "username": "xxx", "password": PASSWORD}
        )
        assert (refused.status, refused.code) == (403, "invite_required")
        admin = await server.person("root", invite=invite)
        assert admin.session["user"]["is_admin"] is True
        made = await admin.post("/admin/invites", {"max_uses": 2, "expires_in": 3600})
        assert made.status == 201
        alice = await server.person("alice", invite=made.json["code"])
        listed = (await admin.get("/admin/invites")).json["items"]
        assert [(item["id"], item["uses"], item["code"]) for item in listed if item["id"] == made.json["id"]] == [
            (made.json["id"], 1, None)
        ]
        for method, path in (
            ("GET", "/admin/users"),
            ("GET", "/admin/stats"),
            ("GET", "/admin/audit"),
            ("POST", "/admin/invites"),
            ("DELETE", f"/admin/users/{admin.id}"),
        ):
            answer = await alice.request(method, path)
            assert (answer.status, answer.code) == (403, "not_allowed"), path
        assert [user["username"] for user in (await admin.get("/admin/users")).json["items"]] == ["root", "alice"]
        assert (await admin.get("/admin/stats")).json["users"] == 2
        assert (await admin.patch(f"/admin/users/{admin.id}", {"is_admin": False})).code == "last_admin"
        assert (await admin.patch(f"/admin/users/{alice.id}", {"disabled": None})).status == 422
        socket = await alice.socket()
        assert (await admin.patch(f"/admin/users/{alice.id}", {"disabled": True})).json["disabled"] is True
        assert await socket.close_code(timeout_s=1) == 4503
        login = await server.post("/auth/login", {"email": alice.email, "password": PASSWORD})
        assert (login.status, login.code) == (403, "account_disabled")
        assert (await admin.delete(f"/admin/users/{alice.id}")).status == 200
        actions = [item["action"] for item in (await admin.get("/admin/audit")).json["items"]]
        assert actions == ["user.delete", "user.change", "invite.add"]
        assert (await admin.delete(f"/admin/invites/{made.json['id']}")).status == 204


async def first_invite(app: object) -> str:
    from hypersend_server.app import START_INVITE

    return str(app[START_INVITE])  # type: ignore[index]


async def test_two_registrations_of_one_name_at_once_make_one_account(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answers = await asyncio.gather(
            *(
                server.post("/auth/register", {"email": f"{n}@example.org", "username": "alice", "password": PASSWORD})
                for n in range(4)
            )
        )
        assert sorted(answer.code or "" for answer in answers) == ["", *["username_taken"] * 3]
