"""What the calls about chats take and answer; the resources themselves are in
`hypersend_server.resources`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from hypersend_server.resources import (
    Body,
    Chat,
    ClientId,
    Id,
    Member,
    Message,
    MessageText,
    Page,
    Query,
    Resource,
    User,
)

Title = Annotated[str, Meta(min_length=1, max_length=100)]
About = Annotated[str, Meta(max_length=500)]
UserIds = Annotated[tuple[Id, ...], Meta(max_length=200)]
FileIds = Annotated[tuple[Id, ...], Meta(max_length=10)]
Mentions = Annotated[tuple[Id, ...], Meta(max_length=50)]
Seq = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class NewDirect(Body, tag_field="kind", tag="direct", frozen=True):
    user_id: Id


class NewGroup(Body, tag_field="kind", tag="group", frozen=True):
    """history: what those who join later may read."""

    title: Title
    member_ids: UserIds = ()
    history: Literal["all", "since_join"] = "all"


NewChat = NewDirect | NewGroup


class ChatPatch(Body, frozen=True):
    """about: null clears it."""

    title: Title | UnsetType = UNSET
    about: About | UnsetType | None = UNSET


class NewMembers(Body, frozen=True):
    user_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=200)]


class RolePatch(Body, frozen=True):
    role: Literal["owner", "admin", "member"]


class OwnPatch(Body, frozen=True):
    """muted_until: RFC 3339 with an offset; null ends it."""

    pinned: bool | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    muted_until: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET


class Forward(Body, frozen=True):
    chat_id: Id
    message_id: Id


class NewMessage(Body, frozen=True):
    """client_id: unique per chat and sender; the same one again answers the first message.

    Some text or a file, or `forward` alone. Mentions of people who are not in the chat are left out.
    """

    client_id: ClientId
    text: MessageText | None = None
    file_ids: FileIds | None = None
    reply_to: Id | None = None
    mentions: Mentions | None = None
    forward: Forward | None = None


class TextPatch(Body, frozen=True):
    text: MessageText


class MarkBody(Body, frozen=True):
    seq: Seq


class SyncBody(Body, frozen=True):
    """token: of the last answer; without one all of one's chats come in `reset`. limit: changes a page,
    about."""

    token: Annotated[str, Meta(max_length=131072)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class ChatsQuery(Page, frozen=True):
    archived: bool = False


class MessagesQuery(Query, frozen=True):
    """At most one of the three."""

    before_seq: Seq | None = None
    after_seq: Seq | None = None
    after_rev: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class DeleteQuery(Query, frozen=True):
    scope: Literal["me", "everyone"] = field(default="me", name="for")


class SearchQuery(Page, frozen=True, kw_only=True):
    q: Annotated[str, Meta(min_length=1, max_length=200)]
    chat_id: Id | None = None


class Messages(Resource):
    """rev: with after_rev the rev up to which this is complete, else the chat's when it was read."""

    items: list[Message]
    rev: int
    next_cursor: None = None


class FoundMessage(Message, kw_only=True):
    """snippet: a part of the text, as plain text; snippet_marks: the matches in it, [start, end) in code
    points."""

    snippet: str
    snippet_marks: list[tuple[int, int]]


class ChatMember(Resource):
    """`left_at` of the member is set where they are in the chat no more."""

    chat_id: str
    member: Member


class HiddenMessage(Resource):
    """Deleted for oneself."""

    chat_id: str
    message_id: str


class SyncAnswer(Resource):
    """What changed. Apply it in this order, then ask again with `token` while `more`.

    full: this starts from nothing (no token, or one from before a restore): forget every chat first.
    gone: chats one is in no more: forget them. reset: forget messages and members of these chats, and load
    them when they are opened; their Chat is in `chats`. chats, members, users: as they are now. messages:
    new and changed ones, of each chat in the order of rev. hidden: messages deleted for oneself.
    """

    full: bool
    gone: list[str]
    reset: list[str]
    chats: list[Chat]
    members: list[ChatMember]
    users: list[User]
    messages: list[Message]
    hidden: list[HiddenMessage]
    token: str
    more: bool
