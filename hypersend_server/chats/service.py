"""What people say: posting, changing and reading messages, marks, sync and search.

The order of a message: saved, acknowledged to its sender, told to the others. `post` is the same for HTTP and
WebSocket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from hypersend_server.chats import cursors
from hypersend_server.chats.emoji import is_emoji
from hypersend_server.chats.groups import Groups
from hypersend_server.chats.marks import MarkWriter
from hypersend_server.chats.present import ChatPresenter, encode
from hypersend_server.chats.publisher import Publisher, Unblocked
from hypersend_server.chats.types import (
    FoundMessage,
    HiddenMessage,
    Messages,
    MessagesQuery,
    SearchQuery,
    SyncAnswer,
)
from hypersend_server.chats.upkeep import Upkeep
from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.metadata.chats import Changed, Chats, Draft
from hypersend_server.names import is_blank
from hypersend_server.realtime.events import Bus
from hypersend_server.resources import Items, Message

MAX_MENTIONS = 50


class Limit(Protocol):
    def take(self, key: str) -> int | None:
        """None where one more is allowed, else the seconds to wait."""


class ForwardOf(Protocol):
    @property
    def chat_id(self) -> str: ...

    @property
    def message_id(self) -> str: ...


class Outgoing(Protocol):
    """What a client sends as a message, in a body or in a frame."""

    @property
    def client_id(self) -> str: ...

    @property
    def text(self) -> str | None: ...

    @property
    def file_ids(self) -> Sequence[str] | None: ...

    @property
    def reply_to(self) -> str | None: ...

    @property
    def mentions(self) -> Sequence[str] | None: ...

    @property
    def forward(self) -> ForwardOf | None: ...


class ChatService:
    """limit, search_limit: how often one person may write and search (by user id). groups: chats and their members.
    require_room: raises `storage_full` while nothing new can be kept."""

    def __init__(
        self,
        chats: Chats,
        bus: Bus,
        presenter: ChatPresenter,
        limit: Limit,
        search_limit: Limit,
        clock: Clock,
        new_id: Callable[[], str],
        require_room: Callable[[], None] = lambda: None,
        unblocked: Unblocked | None = None,
        on_posted: Callable[[], None] = lambda: None,
    ) -> None:
        self._chats = chats
        self._on_posted = on_posted
        self._require_room = require_room
        self._presenter = presenter
        self._limit = limit
        self._search_limit = search_limit
        self._clock = clock
        self._new_id = new_id
        self._publisher = Publisher(bus, presenter, unblocked)
        self._marks = MarkWriter(chats, self._publisher)
        self._on_offer_deleted: list[Callable[[str, str], Awaitable[None]]] = []
        self.upkeep = Upkeep(chats, self._publisher, presenter, clock, new_id)
        self.groups = Groups(chats, self._publisher, presenter, clock, new_id, self._marks.flush, self.upkeep)

    def on_offer_deleted(self, listener: Callable[[str, str], Awaitable[None]]) -> None:
        """`listener(chat_id, message_id)` is awaited when the message of a transfer was deleted for everyone."""
        self._on_offer_deleted.append(listener)

    async def start(self) -> None:
        self.upkeep.start()

    async def close(self) -> None:
        """Write the marks that wait; stop upkeep, which goes on at the next start."""
        await self._marks.close()
        await self.upkeep.close()

    # Writing

    async def post(
        self, user_id: str, chat_id: str, new: Outgoing, except_session: str | None = None
    ) -> tuple[bytes, bool]:
        """Append a message. Returns: (its JSON, False where this client_id had been sent before).

        except_session: a session that learns of it by the answer.
        Raises: `not_found`, `blocked`, `rate_limited`, `upload_incomplete`, `validation_failed`.
        """
        _require_rate(self._limit, user_id)
        self._require_room()
        draft = self._draft(user_id, chat_id, new)
        known = self._publisher.known(chat_id)
        posted = await self._chats.append(draft, -1 if known is None else known.members_rev)
        raw = encode(self._presenter.message(posted.message))
        if posted.created:
            self._on_posted()
            self._publisher.posted(posted, raw, self._publisher.readers(posted.audience, known), except_session)
            self.upkeep.indexing_due()
        return raw, posted.created

    async def post_transfer(
        self, user_id: str, chat_id: str, message_id: str, client_id: str, transfer: dict[str, Any]
    ) -> bool:
        """The message that offers a transfer; once for the same client_id. Returns: whether it is new.

        Raises: `not_found`, `blocked`, `rate_limited`, `idempotency_conflict` (another message has this client_id).
        """
        _require_rate(self._limit, user_id)
        self._require_room()
        draft = Draft(
            id=message_id, chat_id=chat_id, sender_id=user_id, client_id=client_id, transfer=transfer,
            now=self._clock())
        known = self._publisher.known(chat_id)
        posted = await self._chats.append(draft, -1 if known is None else known.members_rev)
        if posted.created:
            raw = encode(self._presenter.message(posted.message))
            self._publisher.posted(posted, raw, self._publisher.readers(posted.audience, known), None)
        elif posted.message.id != message_id:
            raise HyperSendError("idempotency_conflict", "This client_id was used for another message.")
        return posted.created

    async def show_transfer(self, chat_id: str, message_id: str, transfer: dict[str, Any]) -> bool:
        """The message shows the transfer as it is now, and its readers hear of it. Returns: whether it is there."""
        changed = await self._chats.show_transfer(chat_id, message_id, transfer)
        if changed is not None and changed.changed:
            self._publisher.changed(changed, encode(self._presenter.message(changed.message)))
        return changed is not None

    def _draft(self, user_id: str, chat_id: str, new: Outgoing) -> Draft:
        text = new.text or ""
        if new.forward is None:
            if not new.file_ids and is_blank(text):
                raise validation_failed(("text", "is empty, and there is no file"))
        elif text or new.file_ids:
            raise validation_failed(("forward", "brings its own text and files"))
        if new.mentions and len(new.mentions) > MAX_MENTIONS:
            raise validation_failed(("mentions", f"may have at most {MAX_MENTIONS} people"))
        return Draft(
            id=self._new_id(),
            chat_id=chat_id,
            sender_id=user_id,
            client_id=new.client_id,
            text=text,
            file_ids=tuple(dict.fromkeys(new.file_ids)) if new.file_ids else (),
            reply_to=new.reply_to,
            mentions=tuple(dict.fromkeys(new.mentions)) if new.mentions else (),
            forward=None if new.forward is None else (new.forward.chat_id, new.forward.message_id),
            now=self._clock(),
        )

    async def edit(
        self, user_id: str, chat_id: str, message_id: str, text: str, except_session: str | None = None
    ) -> bytes:
        """Its sender's new text. Raises: `not_found`, `not_allowed`, `message_deleted`, `blocked`."""
        _require_rate(self._limit, user_id)
        return self._tell(await self._chats.edit(chat_id, message_id, user_id, text, self._clock()), except_session)

    async def delete_for_everyone(
        self, user_id: str, chat_id: str, message_id: str, except_session: str | None = None
    ) -> bytes:
        """The message keeps its place and loses its content. Raises: `not_found`, `not_allowed`."""
        _require_rate(self._limit, user_id)
        changed = await self._chats.delete_message(chat_id, message_id, user_id, self._clock())
        raw = self._tell(changed, except_session)
        # Also where it was deleted before: the first call may have been cut off here.
        for listener in self._on_offer_deleted if changed.message.kind == "transfer" else ():
            await listener(chat_id, message_id)
        return raw

    async def delete_for_me(self, user_id: str, chat_id: str, message_id: str) -> None:
        """Raises: `not_found`."""
        _require_rate(self._limit, user_id)
        if await self._chats.hide(chat_id, message_id, user_id):
            self._publisher.hidden(chat_id, message_id, user_id)

    async def react(
        self,
        user_id: str,
        chat_id: str,
        message_id: str,
        emoji: str,
        present: bool,
        except_session: str | None = None,
    ) -> bytes:
        """Set or take away one's reaction. Raises: `not_found`, `message_deleted`, `reaction_limit`,
        `blocked`."""
        _require_rate(self._limit, user_id)
        if not is_emoji(emoji):
            raise validation_failed(("emoji", "must be a single emoji"))
        return self._tell(await self._chats.react(chat_id, message_id, user_id, emoji, present), except_session)

    def _tell(self, changed: Changed, except_session: str | None) -> bytes:
        raw = encode(self._presenter.message(changed.message))
        if changed.changed:
            self._publisher.changed(changed, raw, except_session)
        return raw

    async def read(self, user_id: str, chat_id: str, seq: int, *, until_written: bool = True) -> None:
        """Within a second, with the marks that come in it. Raises: `not_found`, `metadata_unavailable`."""
        await self._marks.mark(user_id, chat_id, read_seq=seq, delivered_seq=seq, until_written=until_written)

    async def delivered(self, user_id: str, chat_id: str, seq: int, *, until_written: bool = True) -> None:
        """As `read`."""
        await self._marks.mark(user_id, chat_id, delivered_seq=seq, until_written=until_written)

    async def typing(self, user_id: str, chat_id: str, except_session: str | None = None) -> None:
        """Told to the others, stored nowhere. Raises: `not_found`."""
        known = self._publisher.known(chat_id)
        if known is None or user_id not in known.user_ids:
            known = self._publisher.readers(await self._chats.audience(chat_id, user_id))
        await self._publisher.typing(chat_id, user_id, known, except_session)

    # Reading

    async def message(self, user_id: str, chat_id: str, message_id: str) -> Message:
        """Raises: `not_found`."""
        found = await self._chats.get_message(chat_id, message_id, user_id)
        if found is None:
            raise HyperSendError("not_found")
        return self._presenter.message(found)

    async def messages(self, user_id: str, chat_id: str, query: MessagesQuery) -> Messages:
        """Ascending by seq (by rev with `after_rev`). Raises: `not_found`, `validation_failed`."""
        given = [name for name in ("before_seq", "after_seq", "after_rev") if getattr(query, name) is not None]
        if len(given) > 1:
            raise validation_failed(*((name, "is given beside another place to start from") for name in given))
        if query.after_rev is not None:
            page = await self._chats.messages_after_rev(chat_id, user_id, query.after_rev, query.limit)
        else:
            page = await self._chats.messages_by_seq(
                chat_id, user_id, query.limit, before=query.before_seq, after=query.after_seq
            )
        return Messages(items=[self._presenter.message(m) for m in page.messages], rev=page.rev)

    async def sync(self, user_id: str, token: str | None, limit: int) -> SyncAnswer:
        """What changed since `token`; see SyncAnswer. Raises: `cursor_invalid`: sync without a token."""
        position = cursors.sync_position(token, user_id)
        if token is None:
            await self.groups.ensure_saved(user_id)
        await self._marks.flush(user_id)
        page = await self._chats.sync(position, limit)
        users = await self._presenter.users(page.user_ids, user_id) if page.user_ids else {}
        return SyncAnswer(
            full=page.full,
            gone=page.gone,
            reset=page.reset,
            chats=await self._presenter.chats(page.chats, user_id),
            members=await self._presenter.members(page.members, user_id),
            users=list(users.values()),
            messages=[self._presenter.message(message) for message in page.messages],
            hidden=[HiddenMessage(chat_id=chat_id, message_id=message_id) for chat_id, message_id in page.hidden],
            token=cursors.encode(page.position),
            more=page.more,
        )

    async def search(self, user_id: str, query: SearchQuery) -> Items[FoundMessage]:
        """One's own messages, newest first: all words, the last one as a beginning. Raises:
        `cursor_invalid`, `rate_limited`."""
        _require_rate(self._search_limit, user_id)
        before = cursors.number_position(query.cursor)
        found = await self._chats.search(user_id, query.q, query.chat_id, before, query.limit)
        return Items(
            items=[self._presenter.found(one) for one in found],
            next_cursor=cursors.encode(found[-1].position) if len(found) == query.limit else None,
        )

    async def is_member(self, chat_id: str, user_id: str) -> bool:
        return await self._chats.get_member(chat_id, user_id) is not None

    async def first_seq(self, chat_id: str, user_id: str) -> int | None:
        """The first message there that this person may see; None for who is no member."""
        me = await self._chats.get_member(chat_id, user_id)
        return None if me is None else me.first_seq

    async def peer_in(self, chat_id: str, user_id: str) -> tuple[bool, str | None]:
        """(whether it is a group, the other one of a direct chat or oneself in the saved one).

        Raises: `not_found`.
        """
        view = await self._chats.get_chat(chat_id, user_id)
        if view is None:
            raise HyperSendError("not_found", "There is no such chat, or you may not see it.")
        if view.chat.kind == "saved":
            return False, user_id
        return view.chat.kind == "group", view.chat.peer_of(user_id)

    # What other rooms set off

    async def forget_in_chats(self, user_id: str) -> dict[str, int]:
        """An account ends: leave everything; what was said stays without a sender. Returns: counts."""
        return await self.upkeep.forget_user(user_id)


def _require_rate(limit: Limit, user_id: str) -> None:
    wait_s = limit.take(user_id)
    if wait_s is not None:
        raise HyperSendError("rate_limited", retry_after_s=wait_s)
