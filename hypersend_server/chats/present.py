"""Records of chats as the resources that clients see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from hypersend_server.chats.types import ChatMember, FoundMessage
from hypersend_server.clock import rfc3339, rfc3339_or_none
from hypersend_server.metadata.chats import NO_EXTRA, ChatView, Found, MemberRecord, MessageRecord
from hypersend_server.metadata.files import FileRecord
from hypersend_server.resources import Chat, File, ForwardedFrom, Member, Message, Reaction, User

PresentUsers = Callable[[Collection[str], str], Awaitable[Mapping[str, User]]]
"""(ids, viewer_id) → the users; '' as viewer shows nobody's presence."""

SAVED_TITLE = "Saved messages"
NOBODY = ""  # the viewer of what many people get alike

encode = msgspec.json.Encoder().encode


class ChatPresenter:
    """present_file and picture_url: pure functions of the rooms that own files and pictures."""

    def __init__(
        self,
        present_users: PresentUsers,
        present_file: Callable[[FileRecord], File],
        picture_url: Callable[[str], str],
    ) -> None:
        self.users = present_users
        self._file = present_file
        self._picture_url = picture_url

    def message(self, record: MessageRecord) -> Message:
        return Message(**self._fields(record))

    def found(self, found: Found) -> FoundMessage:
        return FoundMessage(**self._fields(found.message), snippet=found.snippet, snippet_marks=found.marks)

    def _fields(self, record: MessageRecord) -> dict[str, Any]:
        extra = record.extra
        fields: dict[str, Any] = {
            "id": record.id,
            "chat_id": record.chat_id,
            "seq": record.seq,
            "rev": record.rev,
            "client_id": record.client_id,
            "sender_id": record.sender_id,
            "kind": record.kind,
            "text": record.text,
            "files": [],
            "transfer": None,
            "system": None,
            "reply_to": None,
            "forwarded_from": None,
            "mentions": [],
            "reactions": [],
            "created_at": rfc3339(record.created_at),
            "edited_at": rfc3339_or_none(record.edited_at),
            "deleted_at": rfc3339_or_none(record.deleted_at),
        }
        if extra is not NO_EXTRA:
            origin = extra.forwarded_from
            fields.update(
                files=[self._file(file) for file in record.files],
                transfer=extra.transfer,
                system=extra.system,
                reply_to=extra.reply_to,
                forwarded_from=None
                if origin is None
                else ForwardedFrom(chat_id=origin.chat_id, message_id=origin.message_id, sender_id=origin.sender_id),
                mentions=list(extra.mentions),
                reactions=[Reaction(emoji=r.emoji, user_ids=list(r.user_ids)) for r in extra.reactions],
            )
        return fields

    async def chats(self, views: Sequence[ChatView], viewer_id: str) -> list[Chat]:
        peers = {peer for view in views if (peer := view.chat.peer_of(viewer_id)) is not None}
        users = await self.users(peers, viewer_id) if peers else {}
        return [self._chat(view, users.get(view.chat.peer_of(viewer_id) or "")) for view in views]

    def _chat(self, view: ChatView, peer: User | None) -> Chat:
        chat, me = view.chat, view.me
        title, avatar_url = chat.title, None if chat.avatar_id is None else self._picture_url(chat.avatar_id)
        if chat.kind == "direct":
            title, avatar_url = (peer.display_name, peer.avatar_url) if peer else ("", None)
        elif chat.kind == "saved":
            title = SAVED_TITLE
        return Chat(
            id=chat.id,
            kind=chat.kind,
            title=title,
            about=chat.about,
            avatar_url=avatar_url,
            members_count=2 if chat.kind == "direct" else chat.members_count,
            role=me.role,
            peer=peer,
            seq=chat.seq,
            rev=chat.rev,
            unread=view.unread,
            read_seq=me.read_seq,
            last_message=None if view.last_message is None else self.message(view.last_message),
            pinned=me.pinned,
            archived=me.archived,
            muted_until=rfc3339_or_none(me.muted_until),
            created_at=rfc3339(chat.created_at),
            updated_at=rfc3339(chat.updated_at),
        )

    async def members(self, records: Sequence[MemberRecord], viewer_id: str) -> list[ChatMember]:
        """In the same order; whose account cannot be shown any more is left out."""
        users = await self.users({record.user_id for record in records}, viewer_id) if records else {}
        return [
            ChatMember(
                chat_id=r.chat_id,
                member=Member(
                    user=users[r.user_id],
                    role=r.role,
                    first_seq=r.first_seq,
                    delivered_seq=r.delivered_seq,
                    read_seq=r.read_seq,
                    joined_at=rfc3339(r.joined_at),
                    left_at=rfc3339_or_none(r.left_at),
                ),
            )
            for r in records
            if r.user_id in users
        ]
