"""For schemathesis: people and things that are there, so that what it sends reaches more than 404.

A thing is made when a call first needs it, and anew after a call that may have used it up.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.harness import PASSWORD

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
RELEASED = "1.0.0"


class Person:
    """Somebody who is signed in, and signs in again where that has ended. Returns what the server answers."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.session: dict[str, Any] = {}

    @property
    def id(self) -> str:
        return str(self.session["user"]["id"])

    @property
    def token(self) -> str:
        return str(self.session["access_token"])

    def enter(self, **fields: Any) -> Person:
        """Sign in, or register where there is no such account (any more)."""
        who = {"email": f"{self.name}@example.org", "password": PASSWORD}
        status, session = self.send("POST", "/auth/login", who)
        if status == 401:
            status, session = self.send("POST", "/auth/register", {**who, "username": self.name, **fields})
        assert status in (200, 201), (status, session)
        self.session = session
        return self

    def still_in(self) -> bool:
        return bool(self.session) and self.send("GET", "/users/me")[0] == 200

    def call(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.send(method, path, body)
        if status == 401:
            self.enter()
            status, answer = self.send(method, path, body)
        assert status < 300, (method, path, status, answer)
        return answer

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        is_json = not isinstance(body, bytes)
        request = urllib.request.Request(
            self.url + "/api/v1" + path, None if body is None else json.dumps(body).encode() if is_json else body,
            {"Content-Type": "application/json" if is_json else "application/octet-stream"}, method=method)
        if self.session:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, data = error.code, error.read()
        return status, json.loads(data) if data else None

    def stored(self, name: str = "tea.txt", data: bytes = b"tea") -> str:
        """The id of a file of this person's own."""
        file_id = str(self.call("POST", "/files/init", {"name": name, "size": len(data)})["id"])
        self.call("PUT", f"/files/{file_id}/chunk?index=0", data)
        self.call("POST", f"/files/{file_id}/complete")
        return file_id


class Town:
    """asha: who calls. ben: who is in her chats. root: an administrator, so that hers is never the last account."""

    def __init__(self, url: str, *, is_admin: bool) -> None:
        self.url = url
        self.is_admin = is_admin
        self.asha, self.ben, self.root = Person(url, "asha"), Person(url, "ben"), Person(url, "root")
        self.things: dict[str, Any] = {}
        self.made = 0
        self._makers: dict[str, Callable[[], Any]] = {
            "chat_id": self._chat, "message_id": self._message, "upload_id": self._upload, "id": self.asha.stored,
            "file_id": self.asha.stored, "offered": lambda: self._offer(self.ben, self.asha),
            "offering": lambda: self._offer(self.asha, self.ben), "invite_id": self._invite, "session": self._session,
            "picture": self._picture, "stranger": self._stranger}

    def found(self, invite: str) -> Town:
        """What has to be there from the beginning."""
        self.root.enter(invite=invite)
        self.root.call("POST", "/updates/release", {
            "file_id": self.root.stored("app.tar.gz"), "version": RELEASED, "platform": "linux"})
        self.ben.enter()
        self.settle()
        return self

    def settle(self) -> str:
        """Asha's token, on a device that can send and receive; signs her in where that has ended."""
        if not self.asha.still_in():
            self.asha.enter()
            if self.is_admin and not self.asha.session["user"]["is_admin"]:
                self.root.call("PATCH", f"/admin/users/{self.asha.id}", {"is_admin": True})
            self.asha.call("PUT", "/auth/device-key", {"public_key": KEY})
        return self.asha.token

    def thing(self, name: str) -> Any:
        if name not in self.things:
            self.things[name] = self._makers[name]()
        return self.things[name]

    def number(self) -> int:
        self.made += 1
        return self.made

    def _chat(self) -> str:
        return str(self.asha.call(
            "POST", "/chats", {"kind": "group", "title": "Tea", "member_ids": [self.ben.id]})["id"])

    def _message(self) -> str:
        return str(self.asha.call("POST", f"/chats/{self.thing('chat_id')}/messages", {
            "client_id": str(self.number()), "text": "tea at four"})["id"])

    def _upload(self) -> str:
        return str(self.asha.call("POST", "/files/init", {"name": "half.txt", "size": 3})["id"])

    def _offer(self, sender: Person, receiver: Person) -> str:
        sender.call("PUT", "/auth/device-key", {"public_key": KEY})
        return str(sender.call("POST", "/p2p/send", {
            "chat_id": self.thing("chat_id"), "receiver_id": receiver.id, "name": "film", "size": 9,
            "client_id": str(self.number())})["id"])

    def _invite(self) -> str:
        return str(self.root.call("POST", "/admin/invites", {})["id"])

    def _session(self) -> dict[str, Any]:
        """Another one of hers."""
        return Person(self.url, "asha").enter().session

    def _picture(self) -> tuple[str, dict[str, str]]:
        """(its id, the query of its signature)"""
        parts = urlsplit(self.asha.call("PUT", "/users/me/avatar", PNG)["avatar_url"])
        return parts.path.rsplit("/", 1)[1], dict(parse_qsl(parts.query))

    def _stranger(self) -> str:
        return Person(self.url, f"stranger{self.number()}").enter().id


# Ids in paths, where they are not those of `thing`.
def path_value(town: Town, operation: str, name: str) -> str | None:
    """What to put there; None: leave it."""
    if name == "user_id":
        return town.ben.id if "/chats/" in operation else str(town.thing("stranger"))
    if name == "transfer_id":
        return str(town.thing("offering" if operation.endswith("/store") else "offered"))
    if name == "session_id":
        return str(town.thing("session")["session_id"])
    if name == "picture_id":
        return str(town.thing("picture")[0])
    if name in ("emoji", "version"):
        return {"emoji": "👍", "version": RELEASED}[name]
    return str(town.thing(name))


# What these calls must bring to be accepted, where chance would hardly hit it: the body, the query or both.
Good = dict[str, Any]
GOOD: dict[str, Callable[[Town], Good]] = {
    "POST /api/v1/auth/login": lambda town: {"body": {"email": "ben@example.org", "password": PASSWORD}},
    "POST /api/v1/auth/register": lambda town: {"body": {
        "email": f"new{town.number()}@example.org", "username": f"new{town.made}", "password": PASSWORD}},
    "POST /api/v1/auth/refresh": lambda town: {"body": {"refresh_token": town.thing("session")["refresh_token"]}},
    "POST /api/v1/auth/reset": lambda town: {"body": {"code": os.environ["RESET_CODE"], "new_password": PASSWORD}},
    "PUT /api/v1/auth/password": lambda town: {"body": {"current_password": PASSWORD, "new_password": PASSWORD}},
    "PUT /api/v1/auth/device-key": lambda town: {"body": {"public_key": KEY}},
    "DELETE /api/v1/users/me": lambda town: {"body": {"password": PASSWORD}},
    "PUT /api/v1/users/me/avatar": lambda town: {"body": PNG},
    "GET /api/v1/pictures/{picture_id}": lambda town: {"query": town.thing("picture")[1]},
    "POST /api/v1/chats": lambda town: {"body": {"kind": "group", "title": "Tea", "member_ids": [town.ben.id]}},
    "PUT /api/v1/chats/{chat_id}/avatar": lambda town: {"body": PNG},
    "PATCH /api/v1/chats/{chat_id}/me": lambda town: {"body": {"muted_until": "2999-01-01T00:00:00Z"}},
    "POST /api/v1/chats/{chat_id}/members": lambda town: {"body": {"user_ids": [town.thing("stranger")]}},
    "POST /api/v1/chats/{chat_id}/messages": lambda town: {"body": {
        "client_id": str(town.number()), "text": "tea", "file_ids": [town.thing("file_id")],
        "mentions": [town.ben.id], "reply_to": town.thing("message_id")}},
    "POST /api/v1/sync": lambda town: {"body": {}},
    "GET /api/v1/search": lambda town: {"query": {"q": "tea", "chat_id": town.thing("chat_id")}},
    "POST /api/v1/files/init": lambda town: {"body": {"name": "a.txt", "size": 3, "chat_id": town.thing("chat_id")}},
    "PUT /api/v1/files/{upload_id}/chunk": lambda town: {"query": {"index": 0}, "body": b"tea"},
    "POST /api/v1/files/upload-ticket": lambda town: {"body": {"chat_id": town.thing("chat_id")}},
    "GET /api/v1/files/{file_id}/download": lambda town: {"query": {}},
    "POST /api/v1/p2p/send": lambda town: {"body": {
        "chat_id": town.thing("chat_id"), "receiver_id": town.ben.id, "name": "a", "size": 1,
        "client_id": str(town.number())}},
    "GET /api/v1/updates/check": lambda town: {"query": {"platform": "linux", "version": "0.9.0"}},
    "GET /api/v1/updates/latest": lambda town: {"query": {"platform": "linux"}},
    "GET /api/v1/updates/{version}": lambda town: {"query": {"platform": "linux"}},
    "GET /api/v1/updates/{version}/download": lambda town: {"query": {"platform": "linux"}},
    "POST /api/v1/updates/release": lambda town: {"body": {
        "file_id": town.thing("file_id"), "version": f"1.{town.number()}.0", "platform": "linux"}},
}


def whole(town: Town) -> str:
    """The id of an upload whose bytes are all there."""
    upload_id = town.thing("upload_id")
    town.asha.send("PUT", f"/files/{upload_id}/chunk?index=0", b"tea")
    return str(upload_id)
