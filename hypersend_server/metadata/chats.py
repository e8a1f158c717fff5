"""Records and contract of chats: who is in them, what was said, and what changed since when.

Every change of a message takes its chat's next `rev` and a stamp of the whole database; the chat carries the
newest of both. A reader never sees a rev while a lower one of that chat can still appear. Marks, roles and
pins stamp the member. A method that changes something is one transaction and answers what the caller needs
to tell people: the message as it is now and the chat's audience.

Times are Unix milliseconds. Every method that takes a person answers for what that person may see: what lies
below `first_seq`, or was deleted for them, is not there. Raises, unless said otherwise: HyperSendError
`not_found` where the person is not a member (or the message is not visible to them).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from hypersend_server.metadata.files import FileRecord

ChatKind = Literal["direct", "group", "saved"]
Role = Literal["owner", "admin", "member"]
MessageKind = Literal["text", "file", "transfer", "system"]

MAX_MEMBERS = 1000
MAX_UNREAD = 1000
MAX_BEHIND = 5000  # changes of one chat that /sync delivers; further behind means loading it anew
MAX_REACTIONS_EACH = 3
MAX_REACTION_KINDS = 50  # different ones on one message


class ChatRecord(msgspec.Struct, frozen=True, kw_only=True):
    """members_rev grows when people come, go or change role. updated_at: of the newest message."""

    id: str
    kind: ChatKind
    pair_key: str | None
    title: str
    about: str
    avatar_id: str | None
    history: Literal["all", "since_join"]
    seq: int
    rev: int
    members_rev: int
    members_count: int
    created_at: int
    updated_at: int

    def peer_of(self, user_id: str) -> str | None:
        """The other person of a direct chat."""
        if self.kind != "direct" or self.pair_key is None:
            return None
        one, _, other = self.pair_key.partition(":")
        return other if one == user_id else one


def pair_key(one: str, other: str) -> str:
    """What makes a direct chat unique."""
    return f"{one}:{other}" if one < other else f"{other}:{one}"


class MemberRecord(msgspec.Struct, frozen=True, kw_only=True):
    """first_seq: nothing below it is ever served. left_at: a tombstone. began: the stamp of this
    membership."""

    chat_id: str
    user_id: str
    role: Role
    first_seq: int
    delivered_seq: int
    read_seq: int
    joined_at: int
    left_at: int | None
    began: int
    pinned: bool
    archived: bool
    muted_until: int | None


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    chat_id: str
    message_id: str
    sender_id: str | None


class Reactions(msgspec.Struct, frozen=True, array_like=True):
    """One emoji and who set it, in the order they did."""

    emoji: str
    user_ids: tuple[str, ...]


class Extra(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What few messages have. transfer: the Transfer as clients see it, as it was when its status last mattered."""

    file_ids: tuple[str, ...] = ()
    transfer: dict[str, Any] | None = None
    system: dict[str, Any] | None = None
    reply_to: str | None = None
    forwarded_from: Forwarded | None = None
    mentions: tuple[str, ...] = ()
    reactions: tuple[Reactions, ...] = ()


NO_EXTRA = Extra()


class MessageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """files: what `extra.file_ids` names, in that order."""

    id: str
    chat_id: str
    seq: int
    rev: int
    sender_id: str | None
    client_id: str | None
    kind: MessageKind
    text: str
    extra: Extra = NO_EXTRA
    created_at: int
    edited_at: int | None = None
    deleted_at: int | None = None
    files: tuple[FileRecord, ...] = ()


class ChatView(NamedTuple):
    """A chat as one person sees it. unread is counted to MAX_UNREAD."""

    chat: ChatRecord
    me: MemberRecord
    unread: int
    last_message: MessageRecord | None


class ChatPosition(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of the chat list ended."""

    pinned: bool
    updated_at: int
    chat_id: str


class Audience(NamedTuple):
    """The members of a chat at one members_rev.

    members: (user_id, first_seq) pairs; None where the caller said that it knows those of this members_rev, and
    with them whether the chat is a direct one.
    """

    chat_id: str
    members_rev: int
    members: tuple[tuple[str, int], ...] | None
    is_direct: bool = False


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A message to append. forward: (chat_id, message_id) of what is sent on; then text and files are its.
    transfer: what a message of kind `transfer` shows; it has nothing else."""

    id: str
    chat_id: str
    sender_id: str
    client_id: str
    text: str = ""
    file_ids: tuple[str, ...] = ()
    reply_to: str | None = None
    mentions: tuple[str, ...] = ()
    forward: tuple[str, str] | None = None
    transfer: dict[str, Any] | None = None
    now: int


class Posted(NamedTuple):
    """created: False where this client_id was seen before. reopened: who has the direct chat again by it."""

    message: MessageRecord
    created: bool
    audience: Audience
    reopened: tuple[str, ...] = ()


class Changed(NamedTuple):
    """message: the message as it is now. changed: False where it was so already (nothing to tell anybody)."""

    message: MessageRecord
    changed: bool
    audience: Audience


class MemberChange(NamedTuple):
    """What happened to a group. message: its system message, None where nothing changed.

    members: those whose rows changed. gone: people who are no longer in it.
    """

    message: MessageRecord | None
    audience: Audience
    members: tuple[MemberRecord, ...] = ()
    gone: tuple[str, ...] = ()


class Marks(NamedTuple):
    """A member's marks after a change; *_moved say which of them grew. members_count of the chat."""

    delivered_seq: int
    read_seq: int
    delivered_moved: bool
    read_moved: bool
    members_count: int
    audience: Audience


class MessagePage(NamedTuple):
    """rev: up to which the page is complete."""

    messages: list[MessageRecord]
    rev: int


class KnownChat(NamedTuple):
    """A chat of which a device has the messages up to `rev`, and that it was told of in the membership `began`."""

    chat_id: str
    rev: int
    began: int


class SyncPosition(msgspec.Struct, frozen=True, array_like=True):
    """How far a device is. Everything stamped up to `at` has been delivered; 0: nothing.

    While a round is under way (`upto` is not 0): it began at `since`, ends at `upto`, and `reset` are chats
    that were told to be loaded anew at its start. known: where stamps are times, the chats of which more was
    delivered than `at` says. coming: what `known` will be when the round has ended.
    """

    epoch: str
    user_id: str
    at: int
    since: int = 0
    upto: int = 0
    reset: tuple[str, ...] = ()
    known: tuple[KnownChat, ...] = ()
    coming: tuple[KnownChat, ...] = ()


class SyncPage(NamedTuple):
    """One page, read in one snapshot. hidden: (chat_id, message_id) pairs. full: forget everything first."""

    chats: list[ChatView]
    members: list[MemberRecord]
    user_ids: list[str]
    messages: list[MessageRecord]
    hidden: list[tuple[str, str]]
    gone: list[str]
    reset: list[str]
    position: SyncPosition
    more: bool
    full: bool


class Found(NamedTuple):
    """A message that a search found. snippet: a part of its text; marks: where the words stand in it, as
    (start, end) in code points. position: where a next page goes on."""

    message: MessageRecord
    snippet: str
    marks: list[tuple[int, int]]
    position: int


class Chats(Protocol):
    # Chats and their members

    async def ensure_saved(self, user_id: str, chat_id: str, now: int) -> str:
        """The id of the person's own chat, made as `chat_id` where there is none, as old as the account."""

    async def create_direct(self, user_id: str, peer_id: str, chat_id: str, now: int) -> tuple[str, bool, Audience]:
        """The one chat of the pair: (id, whether it is new, audience). The caller's side is opened again.

        Raises: `not_found` no such person; `blocked` where the peer blocks the caller and it would be new.
        """

    async def create_group(
        self,
        owner_id: str,
        member_ids: Sequence[str],
        title: str,
        history: Literal["all", "since_join"],
        chat_id: str,
        message_id: str,
        now: int,
    ) -> MemberChange:
        """Raises: `not_found` no such person, `blocked` by one of them, `chat_full`."""

    async def get_chat(self, chat_id: str, user_id: str) -> ChatView | None: ...

    async def list_chats(self, user_id: str, archived: bool, after: ChatPosition | None, limit: int) -> list[ChatView]:
        """Pinned first, then by newest message; from behind `after`."""

    async def update_group(
        self,
        chat_id: str,
        actor_id: str,
        fields: dict[str, str | None],
        picture: tuple[str, str, bytes] | None,
        message_id: str,
        now: int,
    ) -> MemberChange:
        """Set `title`, `about` or `avatar_id` (None removes it). picture: (id, mime, data) of a new avatar.

        Raises: `not_allowed` unless owner or admin of a group.
        """

    async def delete_chat(self, chat_id: str, user_id: str, now: int) -> list[str]:
        """A group for all (its owner's), a direct chat on one's own side. Returns: who lost it.

        Raises: `not_allowed`.
        """

    async def set_own(self, chat_id: str, user_id: str, fields: dict[str, Any]) -> None:
        """Set `pinned`, `archived`, `muted_until` of one's own membership."""

    async def get_member(self, chat_id: str, user_id: str) -> MemberRecord | None:
        """A present member, or None."""

    async def list_members(self, chat_id: str, user_id: str, after_user_id: str, limit: int) -> list[MemberRecord]:
        """Those present, by user id."""

    async def add_members(
        self, chat_id: str, actor_id: str, user_ids: Sequence[str], message_id: str, now: int
    ) -> MemberChange:
        """Whoever is there already is left as they are.

        Raises: `not_allowed`, `blocked` by one of them, `chat_full`.
        """

    async def remove_member(self, chat_id: str, actor_id: str, user_id: str, message_id: str, now: int) -> MemberChange:
        """Remove somebody, or leave. An owner who leaves hands over to the oldest admin, else the oldest
        member; the last one takes the group along. Raises: `not_allowed`."""

    async def set_role(
        self, chat_id: str, actor_id: str, user_id: str, role: Role, message_id: str, now: int
    ) -> MemberChange:
        """`owner` hands the group over. Raises: `not_allowed` unless the owner asks, `owner_required`."""

    # Messages

    async def append(self, draft: Draft, known_members_rev: int) -> Posted:
        """Raises: `not_found`, `blocked`, `upload_incomplete`, `not_allowed`, `message_deleted` (of a
        forward)."""

    async def edit(self, chat_id: str, message_id: str, user_id: str, text: str, now: int) -> Changed:
        """Raises: `not_allowed`, `message_deleted`, `blocked`, `validation_failed` where nothing would be
        left."""

    async def delete_message(self, chat_id: str, message_id: str, user_id: str, now: int) -> Changed:
        """For everyone. It keeps its place and loses its content. Raises: `not_allowed`."""

    async def hide(self, chat_id: str, message_id: str, user_id: str) -> bool:
        """Delete for oneself; False where it was hidden already."""

    async def react(self, chat_id: str, message_id: str, user_id: str, emoji: str, present: bool) -> Changed:
        """Raises: `not_allowed`, `message_deleted`, `blocked`, `reaction_limit`."""

    async def show_transfer(self, chat_id: str, message_id: str, transfer: dict[str, Any]) -> Changed | None:
        """What a message of kind `transfer` shows from now on, with the chat's next rev.

        None where there is no such message any more; a deleted one, and one that shows just this, stays as it is.
        """

    async def get_message(self, chat_id: str, message_id: str, user_id: str) -> MessageRecord | None: ...

    async def messages_by_seq(
        self, chat_id: str, user_id: str, limit: int, *, before: int | None = None, after: int | None = None
    ) -> MessagePage:
        """Ascending by seq: the `limit` next to the bound; without a bound the newest."""

    async def messages_after_rev(self, chat_id: str, user_id: str, rev: int, limit: int) -> MessagePage:
        """Ascending by rev."""

    # Marks, sync, search

    async def set_marks(
        self, chat_id: str, user_id: str, delivered_seq: int, read_seq: int, known_members_rev: int
    ) -> Marks:
        """Marks only grow, and not past the chat's seq; what is read is delivered."""

    async def audience(self, chat_id: str, user_id: str) -> Audience:
        """Who is in the chat."""

    async def sync(self, position: SyncPosition, limit: int) -> SyncPage:
        """The next changes for a device; about `limit`, since what one change wrote stays together."""

    async def search(
        self, user_id: str, query: str, chat_id: str | None, before: int | None, limit: int
    ) -> list[Found]:
        """Newest first; finds all that was committed before the call."""

    async def index_search(self) -> None:
        """Bring the search index up to date, where it is written behind the messages."""

    # Upkeep: work in small transactions that goes on where it stopped

    async def restamp_for_file(self, file_id: str, limit: int) -> list[Changed]:
        """Give the next `limit` messages that show this file their chat's next rev; [] when done."""

    def forget_user(self, user_id: str, new_id: Any, now: int) -> AsyncIterator[MemberChange | None]:
        """Leave every chat (the groups with a system message each), remove the saved one.

        One after the other, each told once it is written: the change of a group, None for another chat.
        """

    async def forget_sender(self, user_id: str, limit: int) -> list[Changed]:
        """Take the sender from the next `limit` of this person's messages; [] when done."""

    async def purge(self, chat_id: str, limit: int) -> bool:
        """Remove the next `limit` messages of a chat that is no more; False when done."""

    async def pending_jobs(self) -> list[tuple[str, str]]:
        """(kind, id) of upkeep that is not finished: restamp_file FILE, forget_user USER, purge_chat CHAT."""
