"""Chats and their members: making, listing, changing and leaving them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET

from hypersend_server.chats import cursors
from hypersend_server.chats.present import ChatPresenter
from hypersend_server.chats.publisher import Publisher
from hypersend_server.chats.types import ChatPatch, ChatsQuery, NewChat, NewDirect, NewGroup, OwnPatch
from hypersend_server.chats.upkeep import Upkeep
from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.metadata.chats import ChatPosition, Chats, Role
from hypersend_server.names import is_blank
from hypersend_server.resources import Chat, Items, Member, Page


class Groups:
    """flush_marks: writes the marks that wait of a person who is about to look."""

    def __init__(
        self,
        chats: Chats,
        publisher: Publisher,
        presenter: ChatPresenter,
        clock: Clock,
        new_id: Callable[[], str],
        flush_marks: Callable[[str], Awaitable[None]],
        upkeep: Upkeep,
    ) -> None:
        self._chats = chats
        self._publisher = publisher
        self._presenter = presenter
        self._clock = clock
        self._new_id = new_id
        self._flush_marks = flush_marks
        self._upkeep = upkeep
        self._on_gone: list[Callable[[str, Sequence[str]], Awaitable[None]]] = []

    def on_gone(self, listener: Callable[[str, Sequence[str]], Awaitable[None]]) -> None:
        """`listener(chat_id, user_ids)` is awaited when people left, were removed, or lost the chat."""
        self._on_gone.append(listener)

    async def _gone(self, chat_id: str, user_ids: Sequence[str]) -> None:
        for listener in self._on_gone if user_ids else ():
            await listener(chat_id, user_ids)

    async def ensure_saved(self, user_id: str) -> str:
        """The chat with oneself, made where it is missing. Returns: its id."""
        return await self._chats.ensure_saved(user_id, self._new_id(), self._clock())

    async def list_chats(self, user_id: str, query: ChatsQuery) -> Items[Chat]:
        """Pinned first, then by newest message. Raises: `cursor_invalid`."""
        after = cursors.chat_position(query.cursor)
        if after is None:
            await self.ensure_saved(user_id)
        await self._flush_marks(user_id)
        views = await self._chats.list_chats(user_id, query.archived, after, query.limit)
        cursor = None
        if len(views) == query.limit:
            last = views[-1]
            cursor = cursors.encode(ChatPosition(last.me.pinned, last.chat.updated_at, last.chat.id))
        return Items(items=await self._presenter.chats(views, user_id), next_cursor=cursor)

    async def get(self, user_id: str, chat_id: str) -> Chat:
        """Raises: `not_found`."""
        await self._flush_marks(user_id)
        view = await self._chats.get_chat(chat_id, user_id)
        if view is None:
            raise HyperSendError("not_found")
        return (await self._presenter.chats([view], user_id))[0]

    async def create(self, user_id: str, new: NewChat) -> tuple[Chat, bool]:
        """(the chat, False for a direct one that exists). Raises: `not_found`, `blocked`, `chat_full`."""
        if isinstance(new, NewDirect):
            return await self._create_direct(user_id, new)
        return await self._create_group(user_id, new), True

    async def _create_direct(self, user_id: str, new: NewDirect) -> tuple[Chat, bool]:
        if new.user_id == user_id:
            raise validation_failed(("user_id", "is your own; the chat with yourself is there already"))
        chat_id, created, audience = await self._chats.create_direct(
            user_id, new.user_id, self._new_id(), self._clock()
        )
        readers = self._publisher.readers(audience)
        self._publisher.chat_changed(chat_id, readers.user_ids if created else [user_id])
        return await self.get(user_id, chat_id), created

    async def _create_group(self, user_id: str, new: NewGroup) -> Chat:
        chat_id = self._new_id()
        change = await self._chats.create_group(
            user_id,
            new.member_ids,
            one_line("title", new.title),
            new.history,
            chat_id,
            self._new_id(),
            self._clock(),
        )
        await self._publisher.group_changed(change)
        return await self.get(user_id, chat_id)

    async def update(self, user_id: str, chat_id: str, patch: ChatPatch) -> Chat:
        """Raises: `not_found`, `not_allowed`, `validation_failed`."""
        fields: dict[str, str | None] = {}
        if patch.title is not UNSET:
            fields["title"] = one_line("title", patch.title)
        if patch.about is not UNSET:
            fields["about"] = patch.about or ""
        await self._publisher.group_changed(
            await self._chats.update_group(chat_id, user_id, fields, None, self._new_id(), self._clock())
        )
        return await self.get(user_id, chat_id)

    async def require_editor(self, user_id: str, chat_id: str) -> None:
        """Raises: `not_found`, `not_allowed`: before a picture is read and worked on for nothing."""
        await self._chats.update_group(chat_id, user_id, {}, None, "", 0)

    async def set_avatar(self, user_id: str, chat_id: str, picture: tuple[str, bytes] | None) -> Chat:
        """picture: (mime, data) as the server encoded it; None takes it away. Raises: `not_found`,
        `not_allowed`."""
        picture_id = None if picture is None else self._new_id()
        stored = None if picture is None or picture_id is None else (picture_id, *picture)
        await self._publisher.group_changed(
            await self._chats.update_group(
                chat_id, user_id, {"avatar_id": picture_id}, stored, self._new_id(), self._clock()
            )
        )
        return await self.get(user_id, chat_id)

    async def delete(self, user_id: str, chat_id: str) -> None:
        """Raises: `not_found`, `not_allowed`."""
        gone = await self._chats.delete_chat(chat_id, user_id, self._clock())
        self._publisher.gone(chat_id, gone)
        self._upkeep.jobs_due()
        await self._gone(chat_id, gone)

    async def set_own(self, user_id: str, chat_id: str, patch: OwnPatch) -> Chat:
        """Pin, archive, mute for oneself. Raises: `not_found`, `validation_failed`."""
        fields: dict[str, Any] = {}
        if patch.pinned is not UNSET:
            fields["pinned"] = patch.pinned
        if patch.archived is not UNSET:
            fields["archived"] = patch.archived
        if patch.muted_until is not UNSET:
            fields["muted_until"] = None if patch.muted_until is None else _instant("muted_until", patch.muted_until)
        await self._chats.set_own(chat_id, user_id, fields)
        self._publisher.chat_changed(chat_id, [user_id])
        return await self.get(user_id, chat_id)

    # Members

    async def list_members(self, user_id: str, chat_id: str, query: Page) -> Items[Member]:
        """By user id. Raises: `not_found`, `cursor_invalid`."""
        after = cursors.user_position(query.cursor)
        records = await self._chats.list_members(chat_id, user_id, after, query.limit)
        members = await self._presenter.members(records, user_id)
        cursor = cursors.encode(records[-1].user_id) if len(records) == query.limit else None
        return Items(items=[one.member for one in members], next_cursor=cursor)

    async def add_members(self, user_id: str, chat_id: str, user_ids: tuple[str, ...]) -> Items[Member]:
        """Who is new. Raises: `not_found`, `not_allowed`, `chat_full`."""
        change = await self._chats.add_members(chat_id, user_id, user_ids, self._new_id(), self._clock())
        await self._publisher.group_changed(change)
        return Items(items=[one.member for one in await self._presenter.members(change.members, user_id)])

    async def remove_member(self, user_id: str, chat_id: str, member_id: str) -> None:
        """Remove somebody, or leave. Raises: `not_found`, `not_allowed`."""
        change = await self._chats.remove_member(chat_id, user_id, member_id, self._new_id(), self._clock())
        await self._publisher.group_changed(change)
        self._upkeep.jobs_due()  # the last one takes the group along
        await self._gone(chat_id, change.gone)

    async def set_role(self, user_id: str, chat_id: str, member_id: str, role: Role) -> Member:
        """Raises: `not_found`, `not_allowed`, `owner_required`."""
        change = await self._chats.set_role(chat_id, user_id, member_id, role, self._new_id(), self._clock())
        await self._publisher.group_changed(change)
        shown = await self._presenter.members([m for m in change.members if m.user_id == member_id], user_id)
        if not shown:
            raise HyperSendError("not_found")
        return shown[0].member


def one_line(name: str, text: str) -> str:
    """Raises: `validation_failed` where nothing is left or a control character stands in it."""
    text = text.strip()
    if is_blank(text) or any(ord(c) < 32 or c in "\x7f\u2028\u2029" for c in text):
        raise validation_failed((name, "must be one line with something in it"))
    return text


def _instant(name: str, text: str) -> int:
    """RFC 3339 as Unix milliseconds. Raises: `validation_failed`."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        return max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise validation_failed((name, "must be a time such as 2026-01-31T09:30:00Z")) from None
