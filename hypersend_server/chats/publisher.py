"""Tells people what happened in their chats, and remembers who is in which chat."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

from hypersend_server.chats.present import NOBODY, ChatPresenter, encode
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Audience, Changed, Marks, MemberChange, Posted
from hypersend_server.realtime import wire
from hypersend_server.realtime.events import Bus, ChatChanged, ChatGone, Frame, Resync

log = logging.getLogger(__name__)
KNOWN_CHATS = 20_000
Unblocked = Callable[[str, Collection[str]], Awaitable[Collection[str]]]
"""(user_id, others) → those of the others who may see that this person is there."""

MAX_MARKED_MEMBERS = 100  # in larger chats marks go to one's own devices only


class Readers:
    """The members of a chat at one members_rev. latest_start: the highest first_seq among them."""

    __slots__ = ("_members", "is_direct", "latest_start", "members_rev", "user_ids")

    def __init__(self, members_rev: int, members: Sequence[tuple[str, int]], is_direct: bool) -> None:
        self.members_rev = members_rev
        self.is_direct = is_direct
        self._members = members
        self.user_ids = [user_id for user_id, _ in members]
        self.latest_start = max((first_seq for _, first_seq in members), default=0)

    def of(self, seq: int) -> list[str]:
        """Those who may see this message."""
        if seq >= self.latest_start:
            return self.user_ids
        return [user_id for user_id, first_seq in self._members if first_seq <= seq]


class Publisher:
    def __init__(self, bus: Bus, presenter: ChatPresenter, unblocked: Unblocked | None = None) -> None:
        self._bus = bus
        self._unblocked = unblocked
        self._presenter = presenter
        self._known: dict[str, Readers] = {}

    def known(self, chat_id: str) -> Readers | None:
        return self._known.get(chat_id)

    def readers(self, audience: Audience, known: Readers | None = None) -> Readers:
        """known: what the metadata was told to be known already."""
        if audience.members is None:
            assert known is not None
            return known
        readers = Readers(audience.members_rev, audience.members, audience.is_direct)
        held = self._known.get(audience.chat_id)
        if held is None or held.members_rev < readers.members_rev:
            if held is None and len(self._known) >= KNOWN_CHATS:
                del self._known[next(iter(self._known))]
            self._known[audience.chat_id] = readers
        return readers

    def posted(self, posted: Posted, raw: bytes, readers: Readers, except_session: str | None) -> None:
        """raw: the message's JSON."""
        message = posted.message
        self._bus.publish(Frame(readers.of(message.seq), wire.message(raw), except_session))
        if posted.reopened:
            self._bus.publish(ChatChanged(message.chat_id, list(posted.reopened)))

    def changed(self, changed: Changed, raw: bytes, except_session: str | None = None) -> None:
        readers = self.readers(changed.audience)
        self._bus.publish(Frame(readers.of(changed.message.seq), wire.message_changed(raw), except_session))

    def hidden(self, chat_id: str, message_id: str, user_id: str) -> None:
        self._bus.publish(Frame([user_id], wire.message_hidden(chat_id, message_id)))

    async def group_changed(self, change: MemberChange) -> None:
        """The system message, the rows that changed, the chat itself, and who has to go."""
        chat_id = change.audience.chat_id
        readers = self.readers(change.audience)
        if change.message is not None:
            raw = encode(self._presenter.message(change.message))
            self._bus.publish(Frame(readers.of(change.message.seq), wire.message(raw)))
            self._bus.publish(ChatChanged(chat_id, readers.user_ids))
        self.gone(chat_id, change.gone)
        if change.message is None:
            return
        try:
            members = await self._presenter.members(change.members, NOBODY)
        except HyperSendError as error:  # it is written, whoever asked: those who are connected find it when they sync
            log.warning("members of chat %s were told to nobody: %s", chat_id, error)
            self._bus.publish(Frame(readers.user_ids, wire.RESYNC))
            return
        for member in members:
            self._bus.publish(Frame(readers.user_ids, wire.member(chat_id, member.member)))

    def chat_changed(self, chat_id: str, user_ids: Sequence[str]) -> None:
        self._bus.publish(ChatChanged(chat_id, list(user_ids)))

    def gone(self, chat_id: str, user_ids: Sequence[str]) -> None:
        if user_ids:
            self._bus.publish(ChatGone(chat_id, list(user_ids)))

    async def present_to(self, user_id: str, readers: Readers) -> list[str]:
        """Of a chat's people those whom a sign of this person's presence may reach: a block hides it between two.

        It is the sign, and its moment, that is held back. How far somebody has read stands in the member row, which
        a client sees when it syncs; in groups nothing changes.
        """
        if self._unblocked is None or not readers.is_direct:
            return readers.user_ids
        others = [other for other in readers.user_ids if other != user_id]
        seen_by = await self._unblocked(user_id, others)
        return [other for other in readers.user_ids if other == user_id or other in seen_by]

    async def marked(self, chat_id: str, user_id: str, marks: Marks, known: Readers | None) -> None:
        user_ids = [user_id]
        if marks.members_count <= MAX_MARKED_MEMBERS:
            try:
                user_ids = await self.present_to(user_id, self.readers(marks.audience, known))
            except HyperSendError as error:  # they are written, and a repetition would move nothing
                log.warning("marks were told to nobody else: %s", error)
                self._bus.publish(Resync())
        if marks.read_moved:
            self._bus.publish(Frame(user_ids, wire.read(chat_id, user_id, marks.read_seq)))
        if marks.delivered_moved and not (marks.read_moved and marks.delivered_seq == marks.read_seq):
            self._bus.publish(Frame(user_ids, wire.delivered(chat_id, user_id, marks.delivered_seq)))

    async def typing(self, chat_id: str, user_id: str, readers: Readers, except_session: str | None) -> None:
        others = [reader for reader in await self.present_to(user_id, readers) if reader != user_id]
        self._bus.publish(Frame(others, wire.typing(chat_id, user_id), except_session))
