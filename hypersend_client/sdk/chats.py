"""Chats, their members and their messages, as the server has them (what is cached: `store`, `sync`)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from hypersend_client.sdk.errors import ConnectionFailed
from hypersend_client.sdk.events import ChatChanged, Event, MessageChanged, MessageReceived
from hypersend_client.sdk.models import Chat, Member, Message, Page, format_time
from hypersend_client.sdk.pages import items_of, items_of_all, model, page_of, read, whole
from hypersend_client.sdk.transport import Answer, Transport

_KEEP: Any = object()

Seen = Callable[[Event], None]
"""Gets what a call was answered with; the server does not tell the session that did it a second time."""

Request = Callable[..., Awaitable[Any]]
"""Connection.request: raises ConnectionFailed with `sent` False where there is no socket."""


def new_client_id() -> str:
    """What makes a message one message, however often it is sent."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class MessagePage:
    """items: by `seq`, or by `rev` where `after_rev` was asked. rev: up to which that answer is complete."""

    items: list[Message]
    rev: int | None


class Chats:
    def __init__(self, transport: Transport, seen: Seen = lambda event: None) -> None:
        self._http = transport
        self._seen = seen

    async def page(self, *, archived: bool | None = None, limit: int = 50, cursor: str | None = None) -> Page[Chat]:
        """Pinned first, then by the last message."""
        return page_of(
            Chat,
            await self._http.call("GET", "/chats", query={"archived": archived, "limit": limit, "cursor": cursor}),
        )

    async def get(self, chat_id: str) -> Chat:
        return self._told(await self._http.call("GET", _chat(chat_id)))

    async def open_direct(self, user_id: str) -> Chat:
        """The chat with this person, made where there is none yet."""
        return self._told(
            await self._http.call("POST", "/chats", json={"kind": "direct", "user_id": user_id}, idempotent=True)
        )

    async def create_group(
        self, title: str, member_ids: Sequence[str], *, history: Literal["all", "since_join"] | None = None
    ) -> Chat:
        body: dict[str, Any] = {"kind": "group", "title": title, "member_ids": [*member_ids]}
        if history is not None:
            body["history"] = history
        return self._told(await self._http.call("POST", "/chats", json=body))

    async def update(self, chat_id: str, *, title: str = _KEEP, about: str | None = _KEEP) -> Chat:
        body = {name: value for name, value in {"title": title, "about": about}.items() if value is not _KEEP}
        return self._told(await self._http.call("PATCH", _chat(chat_id), json=body, idempotent=True))

    async def update_mine(
        self,
        chat_id: str,
        *,
        pinned: bool = _KEEP,
        archived: bool = _KEEP,
        muted_until: datetime | None = _KEEP,
    ) -> Chat | None:
        """What is one's own about a chat; `muted_until=None` ends the muting."""
        body: dict[str, Any] = {
            name: value for name, value in {"pinned": pinned, "archived": archived}.items() if value is not _KEEP
        }
        if muted_until is not _KEEP:
            body["muted_until"] = None if muted_until is None else format_time(muted_until)
        answer = await self._http.call("PATCH", _chat(chat_id, "/me"), json=body, idempotent=True)
        return None if answer.data is None else self._told(answer)

    async def set_avatar(self, chat_id: str, image: bytes) -> Chat:
        """A group's picture: at most 2 MiB of an image. Raises: ApiError `picture_invalid`, `not_allowed`, …"""
        return self._told(
            await self._http.call(
                "PUT", _chat(chat_id, "/avatar"), body=image, headers={"Content-Type": "application/octet-stream"}
            )
        )

    async def remove_avatar(self, chat_id: str) -> None:
        await self._http.call("DELETE", _chat(chat_id, "/avatar"))

    async def delete(self, chat_id: str) -> None:
        """A group for everyone (its owner), a direct chat for oneself."""
        await self._http.call("DELETE", _chat(chat_id))

    async def members(self, chat_id: str) -> list[Member]:
        """All of them."""
        path = _chat(chat_id, "/members")
        return await items_of_all(
            Member, lambda cursor: self._http.call("GET", path, query={"limit": 200, "cursor": cursor}))

    async def add_members(self, chat_id: str, user_ids: Sequence[str]) -> list[Member]:
        answer = await self._http.call(
            "POST", _chat(chat_id, "/members"), json={"user_ids": [*user_ids]}, idempotent=True
        )
        return items_of(Member, answer) if answer.data is not None else []

    async def set_role(self, chat_id: str, user_id: str, role: Literal["owner", "admin", "member"]) -> None:
        await self._http.call("PATCH", _chat(chat_id, f"/members/{quote(user_id, safe='')}"), json={"role": role})

    async def remove_member(self, chat_id: str, user_id: str) -> None:
        """Oneself: leave."""
        await self._http.call("DELETE", _chat(chat_id, f"/members/{quote(user_id, safe='')}"))

    def _told(self, answer: Answer) -> Chat:
        chat = read(Chat, answer)
        self._seen(ChatChanged(chat))
        return chat


class Messages:
    """request: how to send over the WebSocket while there is one; HTTP serves where there is none."""

    def __init__(self, transport: Transport, request: Request, seen: Seen = lambda event: None) -> None:
        self._http = transport
        self._request = request
        self._seen = seen

    async def page(
        self,
        chat_id: str,
        *,
        before_seq: int | None = None,
        after_seq: int | None = None,
        after_rev: int | None = None,
        limit: int = 100,
    ) -> MessagePage:
        """At most one of the three; none of them: the newest."""
        answer = await self._http.call(
            "GET",
            _chat(chat_id, "/messages"),
            query={"before_seq": before_seq, "after_seq": after_seq, "after_rev": after_rev, "limit": limit},
        )
        rev = answer.data.get("rev") if isinstance(answer.data, dict) else None
        return MessagePage(items_of(Message, answer), None if rev is None else whole(rev))

    async def send(
        self,
        chat_id: str,
        text: str = "",
        *,
        file_ids: Sequence[str] = (),
        reply_to: str | None = None,
        mentions: Sequence[str] = (),
        forward: tuple[str, str] | None = None,
        client_id: str | None = None,
    ) -> Message:
        """forward: (chat_id, message_id). The same `client_id` again answers the first message.

        Raises: ApiError, ConnectionFailed (send again with the same client_id).
        """
        body: dict[str, Any] = {"client_id": client_id or new_client_id()}
        if text:
            body["text"] = text
        if file_ids:
            body["file_ids"] = [*file_ids]
        if reply_to is not None:
            body["reply_to"] = reply_to
        if mentions:
            body["mentions"] = [*mentions]
        if forward is not None:
            body["forward"] = {"chat_id": forward[0], "message_id": forward[1]}
        return await self.post(chat_id, body)

    async def post(self, chat_id: str, body: dict[str, Any]) -> Message:
        """`send` with its body as the API has it."""
        try:
            data = await self._request("message.send", chat_id=chat_id, **body)
        except ConnectionFailed:
            answer = await self._http.call("POST", _chat(chat_id, "/messages"), json=body, idempotent=True)
            data = answer.data
        message = model(Message, data)
        self._seen(MessageReceived(message))
        return message

    async def edit(self, chat_id: str, message_id: str, text: str) -> Message:
        return self._told(
            await self._http.call("PATCH", _message(chat_id, message_id), json={"text": text}, idempotent=True)
        )

    async def delete(self, chat_id: str, message_id: str, *, for_everyone: bool = False) -> None:
        answer = await self._http.call(
            "DELETE", _message(chat_id, message_id), query={"for": "everyone" if for_everyone else "me"}
        )
        if answer.data is not None:
            self._told(answer)

    async def react(self, chat_id: str, message_id: str, emoji: str) -> Message:
        return self._told(
            await self._http.call("PUT", _message(chat_id, message_id, f"/reactions/{quote(emoji, safe='')}"))
        )

    async def unreact(self, chat_id: str, message_id: str, emoji: str) -> Message:
        return self._told(
            await self._http.call("DELETE", _message(chat_id, message_id, f"/reactions/{quote(emoji, safe='')}"))
        )

    async def mark(self, chat_id: str, kind: Literal["read", "delivered"], seq: int) -> None:
        """Everything up to `seq`; it never goes backwards."""
        try:
            await self._request(kind, chat_id=chat_id, seq=seq)
        except ConnectionFailed:
            await self._http.call("POST", _chat(chat_id, f"/{kind}"), json={"seq": seq}, idempotent=True)

    async def search(
        self, text: str, *, chat_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Message]:
        """In one's own chats; each message has a `snippet`."""
        return page_of(
            Message,
            await self._http.call(
                "GET", "/search", query={"q": text, "chat_id": chat_id, "limit": limit, "cursor": cursor}
            ),
        )

    def _told(self, answer: Answer) -> Message:
        message = read(Message, answer)
        self._seen(MessageChanged(message))
        return message


def _chat(chat_id: str, rest: str = "") -> str:
    return f"/chats/{quote(chat_id, safe='')}{rest}"


def _message(chat_id: str, message_id: str, rest: str = "") -> str:
    return _chat(chat_id, f"/messages/{quote(message_id, safe='')}{rest}")
