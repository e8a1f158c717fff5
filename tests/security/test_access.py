"""Who may call what: every route of the application and every frame of its WebSocket, by everybody who may not.

A route that is not in the table fails the first test, so a new one cannot escape. The frames are those of the
contract, where each has an example.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import START_INVITE
from hypersend_server.metadata.sqlite import FILE_NAME
from tests.harness import PASSWORD, Person, Server, Socket, running
from tests.p2p.pair import KEY
from tests.process import REPOSITORY

# Without a session: what a client needs before it has one, what proves itself otherwise, and what watches the server.
PUBLIC = {
    "GET /api/v1/server", "GET /api/v1/server/logo", "GET /api/v1/openapi.json", "GET /api/v1/docs", "GET /healthz",
    "GET /readyz", "POST /api/v1/auth/register", "POST /api/v1/auth/login", "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/reset", "GET /upload", "GET /upload/{name}",
    "GET /metrics",  # from this machine or with its token: tests/operations
    "GET /api/v1/pictures/{picture_id}",  # by the signature in its path: tests/users/test_pictures.py
    "POST /web/token", "GET /web/in",  # by a renewal, by a ticket and the browser's cookie: tests/web
    "GET /api/v1/ws",  # the token may come in the first frame: tests/realtime/test_socket.py
    "GET /api/v1/updates/check", "GET /api/v1/updates/latest", "GET /api/v1/updates/{version}",
    "GET /api/v1/updates/{version}/download",  # an app that is too old to sign in updates itself
}
# With WEB_CLIENT: the files of the app, and the socket of its screens, by a cookie: tests/web/test_sign_in.py
WEB = {"GET /ws", "GET /{path}"}
# One's own things: whoever calls gets theirs.
OWN = {
    "POST /api/v1/auth/logout", "GET /api/v1/auth/sessions", "PUT /api/v1/auth/password", "PUT /api/v1/auth/device-key",
    "GET /api/v1/users/me", "PATCH /api/v1/users/me", "DELETE /api/v1/users/me", "PUT /api/v1/users/me/avatar",
    "DELETE /api/v1/users/me/avatar", "GET /api/v1/users/me/storage", "GET /api/v1/users/me/blocks",
    "PUT /api/v1/users/me/blocks/{user_id}", "DELETE /api/v1/users/me/blocks/{user_id}", "GET /api/v1/users",
    "GET /api/v1/users/{user_id}", "GET /api/v1/chats", "POST /api/v1/chats", "POST /api/v1/sync",
    "GET /api/v1/search", "POST /api/v1/files/init", "POST /api/v1/files/upload-ticket", "GET /api/v1/files",
    "GET /api/v1/p2p", "POST /web/ticket",
}
# For administrators: a body that would do something.
ADMIN: dict[str, Any] = {
    "GET /api/v1/admin/users": None, "PATCH /api/v1/admin/users/{user_id}": {"is_admin": True},
    "DELETE /api/v1/admin/users/{user_id}": None, "POST /api/v1/admin/invites": {"max_uses": 1},
    "GET /api/v1/admin/invites": None, "DELETE /api/v1/admin/invites/{invite_id}": None,
    "GET /api/v1/admin/stats": None, "GET /api/v1/admin/audit": None,
    "POST /api/v1/updates/release": {"version": "9.9.9", "platform": "android", "file_id": "{file_id}"},
}
# Somebody's thing, named by its id: a body that would do something to it.
THINGS: dict[str, Any] = {
    "DELETE /api/v1/auth/sessions/{session_id}": None,
    "GET /api/v1/chats/{chat_id}": None, "PATCH /api/v1/chats/{chat_id}": {"title": "Mine"},
    "DELETE /api/v1/chats/{chat_id}": None, "PUT /api/v1/chats/{chat_id}/avatar": b"\x89PNG\r\n\x1a\n",
    "DELETE /api/v1/chats/{chat_id}/avatar": None, "PATCH /api/v1/chats/{chat_id}/me": {"pinned": True},
    "GET /api/v1/chats/{chat_id}/members": None, "POST /api/v1/chats/{chat_id}/members": {"user_ids": ["{own_id}"]},
    "PATCH /api/v1/chats/{chat_id}/members/{user_id}": {"role": "member"},
    "DELETE /api/v1/chats/{chat_id}/members/{user_id}": None, "GET /api/v1/chats/{chat_id}/messages": None,
    "POST /api/v1/chats/{chat_id}/messages": {"client_id": "x", "text": "I am here"},
    "GET /api/v1/chats/{chat_id}/messages/{message_id}": None,
    "PATCH /api/v1/chats/{chat_id}/messages/{message_id}": {"text": "changed"},
    "DELETE /api/v1/chats/{chat_id}/messages/{message_id}": None,
    "PUT /api/v1/chats/{chat_id}/messages/{message_id}/reactions/{emoji}": None,
    "DELETE /api/v1/chats/{chat_id}/messages/{message_id}/reactions/{emoji}": None,
    "POST /api/v1/chats/{chat_id}/read": {"seq": 1}, "POST /api/v1/chats/{chat_id}/delivered": {"seq": 1},
    "PUT /api/v1/files/{upload_id}/chunk": b"zzzz",
    "POST /api/v1/files/{upload_id}/parts": {"parts": [{"index": 0, "sha256": "0" * 64}]},
    "POST /api/v1/files/{upload_id}/complete": None, "GET /api/v1/files/{id}": None, "DELETE /api/v1/files/{id}": None,
    "GET /api/v1/files/{file_id}/download": None, "POST /api/v1/files/{file_id}/ticket": {},
    "POST /api/v1/p2p/send": {"chat_id": "{chat_id}", "name": "a", "size": 1, "client_id": "y"},
    "POST /api/v1/p2p/{transfer_id}/accept": None, "POST /api/v1/p2p/{transfer_id}/decline": None,
    "POST /api/v1/p2p/{transfer_id}/cancel": None, "POST /api/v1/p2p/{transfer_id}/store": None,
    "POST /api/v1/p2p/{transfer_id}/vouch": {"vouch": "0" * 64},
    "GET /api/v1/p2p/status/{transfer_id}": None, "GET /api/v1/p2p/history/{chat_id}": None,
    "GET /api/v1/p2p/sender/{transfer_id}": None, "GET /api/v1/p2p/receiver/{transfer_id}": None,
}
# What anybody may call, in a way that names a thing of others.
NAMING: dict[str, tuple[str, Any]] = {
    "GET /api/v1/files": ("?chat_id={chat_id}", None), "GET /api/v1/search": ("?q=tea&chat_id={chat_id}", None),
    "POST /api/v1/files/init": ("", {"name": "a", "size": 1, "chat_id": "{chat_id}"}),
    "POST /api/v1/files/upload-ticket": ("", {"chat_id": "{chat_id}"}),
}
OF_PEOPLE = {"user_id", "member_ids", "client_id"}  # anybody may name people, and choose an id for what is new
QUERIES = {"PUT /api/v1/files/{upload_id}/chunk": "?index=0", "GET /api/v1/search": "?q=tea"}
# Frames that name no chat: to oneself, and about people's presence.
PERSONAL = {"auth", "ping", "presence.watch"}
SEEN = {"last_seen_at", "used_at"}  # columns that say when somebody was here
REFUSED = {403, 404}
SOCKETS = {"GET /api/v1/p2p/sender/{transfer_id}", "GET /api/v1/p2p/receiver/{transfer_id}"}
ALL = {*PUBLIC, *OWN, *ADMIN, *THINGS}


@dataclass
class Town:
    """Asha's things, and those who want them. ids: what stands in the paths."""

    server: Server
    asha: Person
    cleo: Person
    ids: dict[str, str]

    async def attempt(self, route: str, who: Any, body: Any = None, query: str = "") -> Any:
        method, path = route.split(" ", 1)
        ids = self.ids | {"own_id": who.id if isinstance(who, Person) else self.asha.id}
        path = (path + (query or QUERIES.get(route, ""))).format(**ids)
        if isinstance(body, bytes):
            return await who.request(method, path, data=body)
        if isinstance(body, dict):
            body = {name: _filled(value, ids) for name, value in body.items()}
        if path.startswith(("/web", "/upload")):
            path = who.url + path
        return await who.request(method, path, body)

    async def looks(self) -> Any:
        """What Asha and Cleo see of their things."""
        found = []
        chat_id, me = self.ids["chat_id"], self.asha
        for path in (f"/chats/{chat_id}", f"/chats/{chat_id}/messages", f"/chats/{chat_id}/members",
                     f"/files/{self.ids['file_id']}?digests=true", f"/files/{self.ids['upload_id']}",
                     f"/p2p/status/{self.ids['transfer_id']}", "/users/me"):
            answer = await me.get(path)
            assert answer.status == 200, (path, answer)
            found.append(_without_times(answer.json))
        sessions = await me.get("/auth/sessions")
        found.append(sorted(item["id"] for item in sessions.json["items"]))
        return found


def with_heads(routes: Iterable[str]) -> Iterator[str]:
    """Each, and HEAD beside every GET but those of the sockets, which have none."""
    for route in routes:
        yield route
        if route.startswith("GET ") and route not in SOCKETS:
            yield route.replace("GET", "HEAD", 1)


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(item, ids) for item in value]
    return value.format(**ids) if isinstance(value, str) else value  # a part of a body stays as it is


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items()
                if name not in ("last_seen_at", "online", "expires_at")}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        await server.person("admin", invite=server.app[START_INVITE])
        asha, cleo = await server.person("asha"), await server.person("cleo")
        for person in (asha, cleo):
            assert (await person.put("/auth/device-key", {"public_key": KEY})).status == 204
        chat = (await asha.post("/chats", {"kind": "group", "title": "Tea", "member_ids": [cleo.id]})).json
        upload = (await asha.post("/files/init", {"name": "half.bin", "size": 4})).json
        file = (await asha.post("/files/init", {"name": "tea.txt", "size": 3})).json
        assert (await asha.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")).status == 200
        assert (await asha.post(f"/files/{file['id']}/complete")).status == 201
        message = (await asha.post(f"/chats/{chat['id']}/messages", {
            "client_id": "m", "text": "tea?", "file_ids": [file["id"]]})).json
        transfer = (await asha.post("/p2p/send", {
            "chat_id": chat["id"], "receiver_id": cleo.id, "name": "film", "size": 9, "client_id": "t"})).json
        yield Town(server, asha, cleo, {
            "chat_id": chat["id"], "message_id": message["id"], "file_id": file["id"], "id": file["id"],
            "upload_id": upload["id"], "transfer_id": transfer["id"], "user_id": asha.id, "emoji": "👍",
            "session_id": asha.session["session_id"], "invite_id": "0" * 26, "picture_id": "x", "version": "1.0.0",
            "name": "index.html"})


@pytest.mark.parametrize(("web_client", "web"), [("off", set()), ("http://127.0.0.1:9", WEB)])
async def test_no_route_escapes_the_table(tmp_path: Path, web_client: str, web: set[str]) -> None:
    async with running(tmp_path, WEB_CLIENT=web_client) as server:
        served = {f"{route.method} {route.resource.canonical}" for route in server.app.router.routes()
                  if route.resource is not None and route.method != "HEAD"}
    assert served - ALL == web
    assert served >= ALL
    assert len(ALL) == len(PUBLIC) + len(OWN) + len(ADMIN) + len(THINGS)  # none twice


async def test_stranger_without_a_session_gets_nowhere(town: Town) -> None:
    before = await town.looks()
    for route in with_heads(sorted(ALL - PUBLIC)):
        body = ADMIN.get(route, THINGS.get(route))
        answer = await town.attempt(route, town.server, body)
        if route in SOCKETS:
            assert answer.status == 400, route  # no WebSocket; its token may come in the first frame
        elif route.startswith("HEAD"):
            assert answer.status == 401, route
        else:
            assert (answer.status, answer.code) == (401, "unauthenticated"), route
    assert await town.looks() == before


async def test_session_that_has_ended_gets_nowhere(town: Town) -> None:
    before = await town.looks()
    gone = await town.server.login(town.cleo.email)
    assert (await gone.post("/auth/logout")).status == 204
    await _all_refused(town, gone, 401)
    assert await town.looks() == before


async def test_disabled_user_gets_nowhere(town: Town) -> None:
    admin = await town.server.login("admin@example.org")
    before = await town.looks()
    assert (await admin.patch(f"/admin/users/{town.cleo.id}", {"disabled": True})).status == 200
    await _all_refused(town, town.cleo, 401)
    answer = await town.server.post("/auth/login", {"email": town.cleo.email, "password": PASSWORD})
    assert answer.status in (401, 403)
    refreshed = await town.server.post("/auth/refresh", {"refresh_token": town.cleo.session["refresh_token"]})
    assert refreshed.status in (401, 403)
    assert await town.looks() == before


async def _all_refused(town: Town, who: Person, status: int) -> None:
    for route in with_heads(sorted(ALL - PUBLIC)):
        answer = await town.attempt(route, who, ADMIN.get(route, THINGS.get(route)))
        assert answer.status == status, (route, answer)


async def test_who_is_no_administrator_administers_nothing(town: Town) -> None:
    before = await town.looks()
    for route in with_heads(ADMIN):
        answer = await town.attempt(route, town.cleo, ADMIN.get(route))
        code = None if route.startswith("HEAD") else "not_allowed"
        assert (answer.status, answer.code) == (403, code), (route, answer)
    assert await town.looks() == before


async def test_outsider_reaches_nothing_of_others(town: Town) -> None:
    before = await town.looks()
    dora = await town.server.person("dora")
    await dora.put("/auth/device-key", {"public_key": KEY})
    for route in with_heads(THINGS):
        answer = await town.attempt(route, dora, THINGS.get(route))
        assert answer.status == 404, (route, answer)  # not even that it is there
    await _named_in_vain(town, dora)
    assert await town.looks() == before


async def _named_in_vain(town: Town, who: Person) -> None:
    for route, (query, body) in NAMING.items():
        for tried in with_heads([route]):
            answer = await town.attempt(tried, who, body, query)
            assert answer.status in REFUSED, (tried, answer)


async def test_no_call_that_names_a_thing_of_others_escapes_the_table(tmp_path: Path) -> None:
    """By what the API's own description says of queries and bodies."""
    async with running(tmp_path) as server:
        document = (await server.get("/openapi.json")).json
    schemas = document["components"]["schemas"]
    naming = set()
    for route in OWN:
        method, path = route.split(" ", 1)
        if path not in document["paths"]:
            continue
        call = document["paths"][path][method.lower()]
        names = {parameter["name"] for parameter in call.get("parameters", []) if parameter["in"] == "query"}
        for content in call.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"]
            names |= set(schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"] if "$ref" in schema else ())
        if any(name.endswith(("_id", "_ids")) for name in names - OF_PEOPLE):
            naming.add(route)
    assert naming == set(NAMING)


@pytest.mark.parametrize("accepted", [False, True])
async def test_removed_member_has_lost_everything(town: Town, accepted: bool) -> None:
    """accepted: the file that was offered to her; its two devices may know each other already."""
    if accepted:
        answer = await town.cleo.post(f"/p2p/{town.ids['transfer_id']}/accept")
        assert answer.status == 200, answer
    chat_id = town.ids["chat_id"]
    own = (await town.cleo.post(f"/chats/{chat_id}/messages", {"client_id": "c", "text": "mine"})).json
    assert (await town.asha.delete(f"/chats/{chat_id}/members/{town.cleo.id}")).status == 204
    before = await town.looks()
    await _named_in_vain(town, town.cleo)
    for route in with_heads(THINGS):
        body = THINGS.get(route)
        answer = await town.attempt(route, town.cleo, body)
        assert answer.status in REFUSED, (route, answer)
        if "{message_id}" in route:
            mine = Town(town.server, town.asha, town.cleo, town.ids | {"message_id": own["id"]})
            answer = await mine.attempt(route, town.cleo, body)
            assert answer.status in REFUSED, (route, answer)
    assert (await town.cleo.post("/sync", {})).json["messages"] == []
    assert (await town.cleo.get("/search?q=tea")).json["items"] == []
    assert await town.looks() == before


async def test_removed_member_hears_nothing_more_on_an_open_socket(town: Town) -> None:
    """What those who stayed hear: who comes, types, reads, reacts and writes, and a new title."""
    chat_id, message_id, asha, cleo = town.ids["chat_id"], town.ids["message_id"], town.asha, town.cleo
    bina = await town.server.person("bina")
    assert (await asha.post(f"/chats/{chat_id}/members", {"user_ids": [bina.id]})).status == 201
    gone, stayed = await cleo.socket(), await bina.socket()
    for ear in (gone, stayed):
        assert (await ear.call(type="presence.watch", user_ids=[asha.id]))["type"] == "ack"
    assert (await asha.delete(f"/chats/{chat_id}/members/{cleo.id}")).status == 204
    await gone.until("chat.gone")
    await _heard(gone)
    await _heard(stayed)
    voice = await asha.socket()
    for frame in ({"type": "typing"}, {"type": "read", "seq": 2},
                  {"type": "reaction.set", "message_id": message_id, "emoji": "👍"},
                  {"type": "message.edit", "message_id": message_id, "text": "coffee?"},
                  {"type": "message.send", "client_id": "later", "text": "tea"}):
        assert (await voice.call(**frame, chat_id=chat_id))["type"] == "ack", frame
    assert (await asha.patch(f"/chats/{chat_id}", {"title": "Coffee"})).status == 200
    expected = {"presence", "typing", "read", "message.changed", "message", "chat"}
    heard: set[str] = set()
    async with asyncio.timeout(30):
        while not expected <= heard:
            heard.add((await stayed.receive())["type"])
    assert await _heard(gone) == []


# Frames


def contract() -> list[dict[str, Any]]:
    """The examples of what a client may send; `realtime/test_wire.py` has every frame in them."""
    accepted = json.loads((REPOSITORY / "tests/contract/client_to_server.json").read_text())["accepted"]
    return [example["frame"] for example in accepted]


def _aimed(frame: dict[str, Any], at: dict[str, Any], chat_id: str) -> dict[str, Any]:
    """The frame with other people's ids in the place of the example's. chat_id: to which it is said to go."""
    known = {"type", "client_id", "text", "for", "emoji", "seq"}
    aimed = {name: at[name] if name in at and value is not None else value for name, value in frame.items()}
    assert {name for name in frame if name not in at} - {"ref"} <= known, f"whose is it? {frame}"
    return aimed | {"chat_id": chat_id} if "chat_id" in frame else aimed


def frames_against(town: Town, message_id: str, own_chat_id: str) -> Iterator[dict[str, Any]]:
    """Every frame about a chat, aimed at Asha's; and every one that could bring what is hers into one's own."""
    chat_id = town.ids["chat_id"]
    at = {"chat_id": chat_id, "message_id": message_id, "reply_to": message_id, "file_ids": [town.ids["file_id"]],
          "mentions": [town.asha.id], "user_ids": [town.asha.id], "token": town.asha.token,
          "forward": {"chat_id": chat_id, "message_id": message_id}}
    for number, frame in enumerate(contract()):
        if frame["type"] in PERSONAL:
            continue
        assert "chat_id" in frame, f"neither about a chat nor in PERSONAL: {frame}"
        yield _aimed(frame, at, chat_id) | {"ref": f"there-{number}"}
        if any(frame.get(name) for name in ("message_id", "reply_to", "file_ids", "forward")):
            yield _aimed(frame, at, own_chat_id) | {"ref": f"here-{number}"}


def everything(town: Town) -> dict[str, list[Any]]:
    """The database's rows, without when somebody was here, and without what is made from the other tables."""
    assert town.server.settings is not None
    found: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(town.server.settings.data_root / FILE_NAME)) as database:
        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table.startswith(("search", "sqlite_", "leases", "jobs")):
                continue
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] not in SEEN]
            rows = database.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            # The index of the search follows the changes by itself, whenever it gets to it.
            found[table] = sorted((row for row in rows if row[0] != "search_changed"), key=repr)
    assert found["messages"]
    assert found["members"]
    return found


async def _tried_in_vain(town: Town, who: Person, *messages: str) -> None:
    own = (await who.post("/chats", {"kind": "group", "title": "Own", "member_ids": []})).json
    listening = [await town.asha.socket(), await who.socket()]
    for person in (town.asha, who):
        await person.post("/sync", {})  # makes the chat of what one saved, and writes the marks that wait
    before, seen = everything(town), await town.looks()
    tried = set()
    for message_id in messages:
        for frame in frames_against(town, message_id, own["id"]):
            answer = await listening[1].call(**frame)
            assert (answer["type"], answer.get("code")) == ("error", "not_found"), (frame, answer)
            tried.add(frame["type"])
    assert tried | PERSONAL == {frame["type"] for frame in contract()}
    await who.post("/sync", {})
    assert everything(town) == before
    assert await town.looks() == seen
    assert await _heard(listening[0]) == []  # nobody types, reads or reacts there


async def _heard(socket: Socket) -> list[str]:
    """The types of what has come."""
    await socket.send(type="ping")
    kinds = []
    async with asyncio.timeout(10):
        while (frame := await socket.receive())["type"] != "pong":
            kinds.append(frame["type"])
    return kinds


async def test_outsiders_frames_reach_nothing_of_others(town: Town) -> None:
    await _tried_in_vain(town, await town.server.person("dora"), town.ids["message_id"])


async def test_removed_members_frames_reach_nothing_any_more(town: Town) -> None:
    """Also where she typed, read and wrote a moment before, so that the server has her in mind."""
    chat_id = town.ids["chat_id"]
    socket = await town.cleo.socket()
    own = (await socket.call(type="message.send", chat_id=chat_id, client_id="c", text="mine"))["data"]
    for frame in ({"type": "typing"}, {"type": "read", "seq": 1}):
        assert (await socket.call(**frame, chat_id=chat_id))["type"] == "ack"
    assert (await town.asha.delete(f"/chats/{chat_id}/members/{town.cleo.id}")).status == 204
    await _tried_in_vain(town, town.cleo, town.ids["message_id"], own["id"])


async def test_frames_that_name_no_chat_tell_nothing_of_others(town: Town) -> None:
    dora = await town.server.person("dora")
    socket = await dora.socket()
    before = everything(town)
    answer = await socket.call(type="auth", token=town.asha.token)  # who one is, one is from the beginning
    assert (answer["type"], answer["code"]) == ("error", "frame_invalid")
    assert (await socket.call(type="presence.watch", user_ids=[town.asha.id]))["type"] == "ack"
    friend = await town.cleo.socket()
    assert (await friend.call(type="presence.watch", user_ids=[town.asha.id]))["type"] == "ack"
    await town.asha.socket()
    while not (told := await friend.until("presence"))["online"]:
        pass
    assert told["user_id"] == town.asha.id
    assert await _heard(socket) == []
    assert everything(town) == before
