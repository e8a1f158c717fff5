"""Chats as clients meet them: over HTTP and WebSocket, against the whole server."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from tests.harness import Person, Server, Socket, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def trio(server: Server) -> tuple[Person, Person, Person]:
    alice, bob, carol = [await server.person(name) for name in ("alice", "bob", "carol")]
    return alice, bob, carol


async def group(owner: Person, *members: Person, **fields: Any) -> str:
    answer = await owner.post(
        "/chats", {"kind": "group", "title": "Tea", "member_ids": [m.id for m in members], **fields}
    )
    assert answer.status == 201, answer
    return str(answer.json["id"])


async def say(person: Person, chat_id: str, text: str, **fields: Any) -> dict[str, Any]:
    answer = await person.post(f"/chats/{chat_id}/messages", {"client_id": text[:64] or "x", "text": text, **fields})
    assert answer.status == 201, answer
    return dict(answer.json)


async def upload(person: Person, data: bytes = b"some bytes", **fields: Any) -> str:
    began = await person.post("/files/init", {"name": "a.txt", "size": len(data), **fields})
    assert began.status == 201, began
    file_id = str(began.json["id"])
    sent = await person.request(
        "PUT", f"/files/{file_id}/chunk?index=0", data=data, headers={"Content-Type": "application/octet-stream"}
    )
    assert sent.status == 200, sent
    assert (await person.post(f"/files/{file_id}/complete")).status == 201
    return file_id


async def test_two_people_talk(server: Server) -> None:
    alice, bob, _ = await trio(server)
    made = await alice.post("/chats", {"kind": "direct", "user_id": bob.id})
    assert made.status == 201
    assert (made.json["kind"], made.json["title"], made.json["peer"]["id"]) == ("direct", "Bob", bob.id)
    again = await bob.post("/chats", {"kind": "direct", "user_id": alice.id})
    assert (again.status, again.json["id"], again.json["title"]) == (200, made.json["id"], "Alice")
    chat_id = made.json["id"]
    async with asyncio.timeout(20):
        live = await bob.socket()
        said = await say(alice, chat_id, "hello", mentions=[bob.id, "nobody"])
        assert said["mentions"] == [bob.id]
        assert (await live.until("message"))["message"] == said
        reply = await live.call(type="message.send", chat_id=chat_id, client_id="1", text="hi", reply_to=said["id"])
    assert reply["data"]["reply_to"] == said["id"]
    listed = (await alice.get("/chats")).json["items"]
    assert [(chat["kind"], chat["unread"]) for chat in listed] == [("direct", 1), ("saved", 0)]
    assert listed[0]["last_message"] == reply["data"]
    page = await alice.get(f"/chats/{chat_id}/messages")
    assert page.json == {"items": [said, reply["data"]], "rev": 2, "next_cursor": None}
    assert (await alice.get(f"/chats/{chat_id}/messages/{said['id']}")).json == said


async def test_a_repeated_client_id_answers_the_first_message(server: Server) -> None:
    alice, *_ = await trio(server)
    chat_id = await group(alice)
    first = await say(alice, chat_id, "once")
    body = {"client_id": "once", "text": "twice"}
    again = await alice.post(f"/chats/{chat_id}/messages", body)
    assert (again.status, again.json) == (200, first)
    live = await alice.socket()
    frame = await live.call(type="message.send", chat_id=chat_id, **body)
    assert frame["data"] == first


async def test_whoever_has_the_answer_is_not_told_again_but_the_same_session_elsewhere_is(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    only = await alice.socket()

    async def frames_until_ack(client_id: str) -> list[str]:
        await only.send(type="message.send", ref="r", chat_id=chat_id, client_id=client_id, text=client_id)
        kinds = [(await only.receive())["type"]]
        while kinds[-1] != "ack":
            kinds.append((await only.receive())["type"])
        return kinds

    assert await frames_until_ack("one") == ["ack"]
    second = await alice.socket()  # another program with the same tokens
    await frames_until_ack("two")
    assert (await second.until("message"))["message"]["text"] == "two"


async def test_strangers_find_nothing(server: Server) -> None:
    alice, bob, carol = await trio(server)
    chat_id = await group(alice, bob)
    said = await say(alice, chat_id, "secret")
    chat, message = f"/chats/{chat_id}", f"/chats/{chat_id}/messages/{said['id']}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", chat, None),
        ("PATCH", chat, {"title": "x"}),
        ("DELETE", chat, None),
        ("DELETE", f"{chat}/avatar", None),
        ("PATCH", f"{chat}/me", {"pinned": True}),
        ("GET", f"{chat}/members", None),
        ("POST", f"{chat}/members", {"user_ids": [carol.id]}),
        ("PATCH", f"{chat}/members/{bob.id}", {"role": "admin"}),
        ("DELETE", f"{chat}/members/{bob.id}", None),
        ("GET", f"{chat}/messages", None),
        ("POST", f"{chat}/messages", {"client_id": "x", "text": "x"}),
        ("GET", message, None),
        ("PATCH", message, {"text": "x"}),
        ("DELETE", message, None),
        ("DELETE", f"{message}?for=everyone", None),
        ("PUT", f"{message}/reactions/{quote('👍')}", None),
        ("POST", f"{chat}/read", {"seq": 1}),
        ("POST", f"{chat}/delivered", {"seq": 1}),
        ("GET", f"/search?q=secret&chat_id={chat_id}", None),
    ]
    for method, path, body in calls:
        answer = await carol.request(method, path, body)
        assert (answer.status, answer.code) == (404, "not_found"), (method, path)
    for path in ("/chats/none", f"/chats/{chat_id}/messages/none", "/chats/a%00b", f"/chats/{quote('चाय')}"):
        assert (await alice.get(path)).status == 404
    assert (await carol.get("/search?q=secret")).json["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"client_id": "x", "text": ""}, "text"),
        ({"client_id": "x", "text": " \n"}, "text"),
        ({"client_id": "x", "text": " \u200b\u2060\u3164\ufe0f\u034f\U000e0100"}, "text"),
        ({"client_id": "x"}, "text"),
        ({"client_id": "x", "text": "a" * 8001}, "text"),
        ({"client_id": "", "text": "a"}, "client_id"),
        ({"client_id": "x" * 65, "text": "a"}, "client_id"),
        ({"text": "a"}, "client_id"),
        ({"client_id": "x", "text": "a", "file_ids": ["f"] * 11}, "file_ids"),
        ({"client_id": "x", "text": "a", "mentions": ["f"] * 51}, "mentions"),
        ({"client_id": "x", "text": "a", "forward": {"chat_id": "a", "message_id": "b"}}, "forward"),
        ({"client_id": "x", "text": "a", "surprise": 1}, "surprise"),
    ],
)
async def test_wrong_messages_are_refused_by_field(server: Server, body: dict[str, Any], field: str) -> None:
    alice = await server.person("alice")
    chat_id = await group(alice)
    answer = await alice.post(f"/chats/{chat_id}/messages", body)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert (await alice.get(f"/chats/{chat_id}")).json["seq"] == 1


async def test_other_bad_input(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    said = await say(alice, chat_id, "a")
    reaction = f"/chats/{chat_id}/messages/{said['id']}/reactions"
    for call, status in (
        (alice.get("/chats?limit=0"), 422),
        (alice.get("/chats?limit=201"), 422),
        (alice.get("/chats?cursor=x"), 400),
        (alice.get("/chats?what=1"), 422),
        (alice.get("/chats?archived=maybe"), 422),
        (alice.get(f"/chats/{chat_id}/messages?before_seq=1&after_seq=1"), 422),
        (alice.get(f"/chats/{chat_id}/messages?after_rev=-1"), 422),
        (alice.get(f"/chats/{chat_id}/members?cursor=AAAA"), 400),
        (alice.get("/search?q="), 422),
        (alice.get("/search?q=a&cursor=zz"), 400),
        (alice.post("/chats", {"kind": "direct", "user_id": alice.id}), 422),
        (alice.post("/chats", {"kind": "direct", "user_id": "nobody"}), 404),
        (alice.post("/chats", {"kind": "group", "title": " ", "member_ids": []}), 422),
        (alice.post("/chats", {"kind": "group", "title": "a\nb", "member_ids": []}), 422),
        (alice.post("/chats", {"kind": "group", "title": "t", "member_ids": ["nobody"]}), 404),
        (alice.post("/chats", {"kind": "channel", "title": "t"}), 422),
        (alice.patch(f"/chats/{chat_id}", {"title": None}), 422),
        (alice.patch(f"/chats/{chat_id}/me", {"muted_until": "tomorrow"}), 422),
        (alice.patch(f"/chats/{chat_id}/me", {"muted_until": "2026-01-01T00:00:00"}), 422),
        (alice.post(f"/chats/{chat_id}/read", {"seq": -1}), 422),
        (alice.post(f"/chats/{chat_id}/members", {"user_ids": []}), 422),
        (alice.request("DELETE", f"/chats/{chat_id}/messages/{said['id']}?for=them"), 422),
        (alice.put(f"{reaction}/ok"), 422),
        (alice.put(f"{reaction}/{quote('👍👍')}"), 422),
        (alice.post("/sync", {"token": "nonsense"}), 400),
        (alice.post("/sync", {"limit": 0}), 422),
    ):
        answer = await call
        assert answer.status == status, answer
    other = (await bob.post("/sync", {})).json["token"]
    assert (await alice.post("/sync", {"token": other})).code == "cursor_invalid"


async def test_everybody_hears_of_changes(server: Server) -> None:
    alice, bob, carol = await trio(server)
    chat_id = await group(alice, bob)
    live = await bob.socket()
    said = await say(alice, chat_id, "tee")
    message = f"/chats/{chat_id}/messages/{said['id']}"
    edited = await alice.patch(message, {"text": "tea"})
    assert (edited.json["text"], edited.json["rev"]) == ("tea", 3)
    assert (await live.until("message.changed"))["message"] == edited.json
    reacted = await alice.put(f"{message}/reactions/{quote('❤️')}")
    assert reacted.json["reactions"] == [{"emoji": "❤️", "user_ids": [alice.id]}]
    assert (await live.until("message.changed"))["message"] == reacted.json
    assert (await alice.delete(f"{message}/reactions/{quote('❤️')}")).json["reactions"] == []
    assert (await alice.delete(f"{message}?for=everyone")).status == 204
    async with asyncio.timeout(10):
        while True:
            changed = (await live.until("message.changed"))["message"]
            if changed["deleted_at"]:
                break
    assert (changed["text"], changed["seq"]) == ("", said["seq"])
    assert (await bob.patch(message, {"text": "x"})).code == "not_allowed"
    assert (await alice.patch(message, {"text": "x"})).code == "message_deleted"
    await alice.patch(f"/chats/{chat_id}", {"title": "Chai", "about": "All about it"})
    assert (await live.until("message"))["message"]["system"]["event"] == "group_changed"
    assert (await live.until("chat"))["chat"]["title"] == "Chai"
    added = await alice.post(f"/chats/{chat_id}/members", {"user_ids": [carol.id]})
    assert (added.status, [m["user"]["id"] for m in added.json["items"]]) == (201, [carol.id])
    assert (await live.until("member"))["member"]["user"]["id"] == carol.id
    await live.send(type="typing", chat_id=chat_id)
    hers = await alice.socket()
    await live.send(type="typing", chat_id=chat_id)
    assert await hers.until("typing") == {"type": "typing", "chat_id": chat_id, "user_id": bob.id}
    assert (await alice.delete(f"/chats/{chat_id}/members/{bob.id}")).status == 204
    assert (await live.until("chat.gone"))["chat_id"] == chat_id
    refused = await live.call(type="message.send", chat_id=chat_id, client_id="x", text="x")
    assert (refused["type"], refused["code"]) == ("error", "not_found")
    await say(alice, chat_id, "he is gone")
    pong = await live.call(type="read", chat_id=chat_id, seq=1)
    assert pong["code"] == "not_found"  # and nothing of the chat came before it


async def test_deleted_for_me_reaches_my_other_device_and_nobody_else(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    said = await say(alice, chat_id, "spoiler")
    phone, laptop = await bob.socket(), await (await server.login(bob.email)).socket()
    token = (await bob.post("/sync", {})).json["token"]
    await phone.send(type="message.delete", chat_id=chat_id, message_id=said["id"], **{"for": "me"})
    hidden = {"type": "message.hidden", "chat_id": chat_id, "message_id": said["id"]}
    assert await laptop.until("message.hidden") == hidden
    assert (await bob.get(f"/chats/{chat_id}/messages/{said['id']}")).status == 404
    synced = (await bob.post("/sync", {"token": token})).json
    assert synced["hidden"] == [{"chat_id": chat_id, "message_id": said["id"]}]
    assert [chat["unread"] for chat in synced["chats"]] == [0]
    assert (await alice.get(f"/chats/{chat_id}/messages/{said['id']}")).json == said


async def test_marks_are_told_and_count(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    live = await alice.socket()
    for n in range(3):
        await say(alice, chat_id, f"t{n}")
    assert (await bob.post(f"/chats/{chat_id}/delivered", {"seq": 4})).status == 204
    assert await live.until("delivered") == {"type": "delivered", "chat_id": chat_id, "user_id": bob.id, "seq": 4}
    assert (await bob.post(f"/chats/{chat_id}/read", {"seq": 3})).status == 204
    assert (await bob.get(f"/chats/{chat_id}")).json["unread"] == 1  # one sees one's own marks at once
    assert (await live.until("read"))["seq"] == 3
    assert (await bob.post(f"/chats/{chat_id}/read", {"seq": 1})).status == 204
    assert (await bob.get(f"/chats/{chat_id}")).json["read_seq"] == 3
    members = (await alice.get(f"/chats/{chat_id}/members")).json["items"]
    assert {m["user"]["id"]: (m["delivered_seq"], m["read_seq"]) for m in members} == {alice.id: (0, 0), bob.id: (4, 3)}


async def test_pin_archive_mute_are_ones_own(server: Server) -> None:
    alice, bob, _ = await trio(server)
    first, second = await group(alice, bob), await group(alice, bob)
    mine = await alice.patch(f"/chats/{first}/me", {"pinned": True, "muted_until": "2030-01-01T05:30:00+05:30"})
    assert (mine.json["pinned"], mine.json["muted_until"]) == (True, "2030-01-01T00:00:00.000Z")
    assert [chat["id"] for chat in (await alice.get("/chats")).json["items"]][:2] == [first, second]
    assert [chat["id"] for chat in (await bob.get("/chats")).json["items"]][:2] == [second, first]
    await alice.patch(f"/chats/{first}/me", {"archived": True, "muted_until": None})
    assert [chat["id"] for chat in (await alice.get("/chats?archived=true")).json["items"]] == [first]
    assert first not in [chat["id"] for chat in (await alice.get("/chats")).json["items"]]


async def test_lists_come_in_pages(server: Server) -> None:
    alice, bob, carol = await trio(server)
    made = [await group(alice, bob, carol) for _ in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await alice.get(f"/chats?limit=2{cursor and f'&cursor={cursor}'}")).json
        found += [chat["id"] for chat in page["items"] if chat["kind"] == "group"]
        cursor = page["next_cursor"]
    assert found == made[::-1]
    page = (await alice.get(f"/chats/{made[0]}/members?limit=2")).json
    rest = (await alice.get(f"/chats/{made[0]}/members?limit=2&cursor={page['next_cursor']}")).json
    assert sorted(m["user"]["id"] for m in page["items"] + rest["items"]) == sorted([alice.id, bob.id, carol.id])


async def test_a_groups_picture(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    out = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(out, "PNG")
    picture = {"data": out.getvalue(), "headers": {"Content-Type": "image/png"}}
    assert (await bob.put(f"/chats/{chat_id}/avatar", **picture)).code == "not_allowed"
    wrong = await alice.put(f"/chats/{chat_id}/avatar", data=b"no picture", headers={"Content-Type": "image/png"})
    assert wrong.code == "picture_invalid"
    set_ = await alice.put(f"/chats/{chat_id}/avatar", **picture)
    assert set_.status == 200
    shown = await server.get((await bob.get(f"/chats/{chat_id}")).json["avatar_url"])
    assert (shown.status, shown.headers["Content-Type"].split("/")[0]) == (200, "image")
    assert (await alice.delete(f"/chats/{chat_id}/avatar")).status == 204
    assert (await bob.get(f"/chats/{chat_id}")).json["avatar_url"] is None


async def test_a_file_in_a_message_is_shown_to_the_chat_until_the_message_goes(server: Server) -> None:
    alice, bob, carol = await trio(server)
    chat_id, other = await group(alice, bob), await group(bob, carol)
    file_id = await upload(alice)
    assert (await bob.get(f"/files/{file_id}")).status == 404
    assert (await bob.post(f"/chats/{chat_id}/messages", {"client_id": "x", "file_ids": [file_id]})).status == 404
    said = await say(alice, chat_id, "", file_ids=[file_id])
    assert (said["kind"], said["files"][0]["id"]) == ("file", file_id)
    assert (await bob.get(f"/files/{file_id}")).status == 200
    forwarded = await bob.post(
        f"/chats/{other}/messages", {"client_id": "f", "forward": {"chat_id": chat_id, "message_id": said["id"]}}
    )
    assert forwarded.json["files"] == said["files"]
    assert (await carol.get(f"/files/{file_id}")).status == 200
    caption = await alice.patch(f"/chats/{chat_id}/messages/{said['id']}", {"text": "look"})
    assert (caption.json["text"], caption.json["files"]) == ("look", said["files"])
    await alice.delete(f"/chats/{chat_id}/messages/{said['id']}?for=everyone")
    assert (await carol.get(f"/files/{file_id}")).status == 200
    await bob.delete(f"/chats/{other}/messages/{forwarded.json['id']}?for=everyone")
    assert (await carol.get(f"/files/{file_id}")).status == 404


async def test_a_message_takes_complete_files_only(server: Server) -> None:
    alice = await server.person("alice")
    chat_id = await group(alice)
    began = await alice.post("/files/init", {"name": "a", "size": 5})
    answer = await alice.post(f"/chats/{chat_id}/messages", {"client_id": "x", "file_ids": [began.json["id"]]})
    assert (answer.status, answer.code) == (409, "upload_incomplete")


async def test_messages_say_that_their_file_was_removed(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    file_id = await upload(alice)
    said = await say(alice, chat_id, "", file_ids=[file_id])
    token = (await bob.post("/sync", {})).json["token"]
    live = await bob.socket()
    assert (await alice.delete(f"/files/{file_id}")).status == 204
    changed = (await live.until("message.changed"))["message"]
    assert (changed["id"], changed["files"][0]["state"], changed["rev"]) == (said["id"], "deleted", said["rev"] + 1)
    synced = (await bob.post("/sync", {"token": token})).json
    assert synced["messages"] == [changed]


async def test_sync_brings_a_device_up_to_date(server: Server) -> None:
    alice, bob, carol = await trio(server)
    chat_id = await group(alice, bob)
    await say(alice, chat_id, "old")
    first = (await bob.post("/sync", {})).json
    assert (first["full"], first["messages"], first["gone"], first["more"]) == (True, [], [], False)
    assert sorted(first["reset"]) == sorted(chat["id"] for chat in first["chats"])
    assert {chat["kind"] for chat in first["chats"]} == {"group", "saved"}
    assert {user["id"] for user in first["users"]} == {alice.id, bob.id}
    new = await say(alice, chat_id, "new")
    await alice.patch("/users/me", {"display_name": "Alice A."})
    await alice.post(f"/chats/{chat_id}/members", {"user_ids": [carol.id]})
    second = (await bob.post("/sync", {"token": first["token"]})).json
    assert second["messages"][0] == new
    assert [m["system"] and m["system"]["event"] for m in second["messages"]] == [None, "member_added"]
    assert [m["member"]["user"]["id"] for m in second["members"]] == [carol.id]
    assert [user["display_name"] for user in second["users"]] == ["Alice A."]
    assert [(chat["id"], chat["unread"]) for chat in second["chats"]] == [(chat_id, 2)]
    third = (await bob.post("/sync", {"token": second["token"]})).json
    assert not any(
        third[key] for key in ("full", "gone", "reset", "chats", "members", "users", "messages", "hidden", "more")
    )
    await alice.delete(f"/chats/{chat_id}")
    assert (await bob.post("/sync", {"token": third["token"]})).json["gone"] == [chat_id]


async def test_search_shows_where_the_words_stand(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    text = "<b>x</b> " + "word " * 60 + "नमस्ते दुनिया " + "more " * 60
    said = await say(alice, chat_id, text)
    found = (await bob.get(f"/search?q={quote('नमस्ते दुनि')}")).json["items"]
    assert [hit["id"] for hit in found] == [said["id"]]
    snippet, marks = found[0]["snippet"], found[0]["snippet_marks"]
    assert "".join(snippet[start:end] for start, end in marks).replace(" ", "") == "नमस्तेदुनिया"
    assert len(snippet) < 200
    assert (await bob.get("/search?q=b&limit=1")).json["items"][0]["snippet"].startswith("<b>x</b>")


async def test_writing_is_limited_per_person(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        chat_id = await group(alice)
        live = await alice.socket()
        codes: list[str] = []

        async def listen(live: Socket) -> None:
            while len(codes) < 1200:
                frame = await live.receive()
                if frame["type"] in ("ack", "error"):
                    codes.append(frame.get("code", "ack"))

        listening = asyncio.create_task(listen(live))
        for n in range(1200):
            await live.send(type="message.send", ref=str(n), chat_id=chat_id, client_id=str(n), text="x")
        await asyncio.wait_for(listening, 30)
        assert codes.count("rate_limited") > 50
        assert codes.count("ack") >= 1000
        answer = await alice.post(f"/chats/{chat_id}/messages", {"client_id": "one more", "text": "x"})
        assert answer.status in (201, 429)
        assert answer.status == 201 or int(answer.headers["Retry-After"]) >= 1


async def test_an_account_that_ends_says_what_became_of_its_chats(server: Server) -> None:
    alice, bob, _ = await trio(server)
    chat_id = await group(alice, bob)
    await say(alice, chat_id, "stays")
    answer = await alice.delete("/users/me", {"password": "correct horse battery"})
    assert answer.status == 200
    items = (await bob.get(f"/chats/{chat_id}/messages")).json["items"]
    assert [(m["sender_id"], m["text"]) for m in items if m["kind"] == "text"] == [(None, "stays")]
    assert (await bob.get(f"/chats/{chat_id}")).json["role"] == "owner"


async def test_a_sync_token_is_opaque_but_not_endless(server: Server) -> None:
    alice = await server.person("alice")
    token = (await alice.post("/sync", {})).json["token"]
    assert len(token) < 200
    for made_up in (token[:-4], token + "AAAA", base64.urlsafe_b64encode(b"\xff" * 50).decode(), "", "é" * 20):
        answer = await alice.post("/sync", {"token": made_up})
        assert (answer.status, answer.code) in {(400, "cursor_invalid"), (422, "validation_failed")}, made_up


async def test_nobody_is_brought_into_a_group_by_somebody_they_block(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha, ben = await server.person("asha"), await server.person("ben")
        assert (await ben.put(f"/users/me/blocks/{asha.id}")).status == 204
        made = await asha.post("/chats", {"kind": "group", "title": "No way out", "member_ids": [ben.id]})
        assert (made.status, made.code) == (403, "blocked")
        group = (await asha.post("/chats", {"kind": "group", "title": "Tea", "member_ids": []})).json
        added = await asha.post(f"/chats/{group['id']}/members", {"user_ids": [ben.id]})
        assert (added.status, added.code) == (403, "blocked")


async def test_a_block_between_two_hides_typing_and_marks_as_they_come_and_groups_go_on(server: Server) -> None:
    alice, bob, carol = await trio(server)
    await alice.post("/chats", {"kind": "direct", "user_id": carol.id})
    direct = (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).json["id"]
    pair = await group(alice, bob)  # a group of two is no direct chat
    told = await say(alice, direct, "before")
    said = await say(alice, pair, "in the group")
    hers = await alice.socket()
    his, his_other = await bob.socket(), await bob.socket()
    await his.send(type="typing", chat_id=direct)
    assert (await hers.until("typing"))["chat_id"] == direct
    for blocker, blocked in ((alice, bob), (bob, alice)):
        assert (await blocker.put(f"/users/me/blocks/{blocked.id}")).status == 204
        await his.send(type="typing", chat_id=direct)
        await his.send(type="read", chat_id=direct, seq=told["seq"])
        assert (await his_other.until("read"))["chat_id"] == direct  # one's own devices know
        await his.send(type="typing", chat_id=pair)
        frame = await hers.receive()
        while frame["type"] not in ("typing", "read", "delivered"):
            frame = await hers.receive()
        assert (frame["type"], frame["chat_id"]) == ("typing", pair)  # and nothing of the direct chat before it
        assert (await blocker.delete(f"/users/me/blocks/{blocked.id}")).status == 204
        told = (await say(alice, direct, f"after {blocker.id}"))
    await his.send(type="read", chat_id=pair, seq=said["seq"])
    assert (await hers.until("read"))["chat_id"] == pair
    await his.send(type="read", chat_id=direct, seq=told["seq"])
    assert (await hers.until("read"))["chat_id"] == direct
