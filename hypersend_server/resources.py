"""The JSON of what more than one room shows: the resources of the API (docs: /api/v1/docs).

Times are RFC 3339 in UTC with milliseconds, sizes bytes, digests 64 lower-case hex digits.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

_TYPE_PART = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"  # RFC 6838, section 4.2
MEDIA_TYPE = rf"^{_TYPE_PART}/{_TYPE_PART}(;[ -~]*)?$(?!\n)"
Id = Annotated[str, Meta(min_length=1, max_length=64)]
# Control characters other than tab and line ends: terminals and logs would obey them.
PLAIN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
MessageText = Annotated[str, Meta(max_length=8000, pattern=PLAIN)]
ClientId = Annotated[str, Meta(min_length=1, max_length=64, pattern=PLAIN)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Base of what clients send; unknown fields are refused."""


class Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Base of query strings; unknown or repeated keys are refused."""


class Page(Query, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=512)] | None = None


class Resource(msgspec.Struct, kw_only=True):
    """Base of what the server answers."""


class Items(Resource, Generic[T]):
    items: list[T]
    next_cursor: str | None = None


class User(Resource):
    id: str
    username: str | None
    display_name: str
    about: str
    avatar_url: str | None
    last_seen_at: str | None
    online: bool


class Me(User):
    """Oneself: with what others do not see."""

    email: str
    is_admin: bool


class Direct(Resource):
    """Parts that go straight to the object store."""

    method: Literal["PUT"]
    expires_at: str
    parts: list[DirectPart]


class DirectPart(Resource):
    index: int
    url: str
    headers: dict[str, str]


class Upload(Resource):
    """An upload in flight. Ranges of chunk indexes include both ends."""

    chunk_size: int
    chunk_count: int
    received: list[tuple[int, int]]
    received_bytes: int
    partial: list[tuple[int, int]]
    verifying: list[tuple[int, int]]
    expires_at: str
    direct: Direct | None = None


class File(Resource):
    id: str
    name: str
    size: int
    mime: str
    state: Literal["uploading", "completing", "complete", "expired", "deleted"]
    checksum: str | None
    sha256: str | None
    sha256_state: Literal["none", "claimed", "verified", "failed"]
    etag: str | None
    chunk_size: int
    width: int | None
    height: int | None
    duration_s: float | None
    preview_url: str | None
    owner_id: str
    backend: str
    created_at: str
    completed_at: str | None
    upload: Upload | None = None
    chunk_sha256: list[str] | msgspec.UnsetType = msgspec.UNSET


class Reaction(Resource):
    emoji: str
    user_ids: list[str]


class ForwardedFrom(Resource):
    chat_id: str
    message_id: str
    sender_id: str | None


class Message(Resource):
    id: str
    chat_id: str
    seq: int
    rev: int
    client_id: str | None
    sender_id: str | None
    kind: Literal["text", "file", "transfer", "system"]
    text: str
    files: list[File]
    transfer: dict[str, Any] | None
    system: dict[str, Any] | None
    reply_to: str | None
    forwarded_from: ForwardedFrom | None
    mentions: list[str]
    reactions: list[Reaction]
    created_at: str
    edited_at: str | None
    deleted_at: str | None


class Chat(Resource):
    id: str
    kind: Literal["direct", "group", "saved"]
    title: str
    about: str
    avatar_url: str | None
    members_count: int
    role: Literal["owner", "admin", "member"]
    peer: User | None
    seq: int
    rev: int
    unread: int
    read_seq: int
    last_message: Message | None
    pinned: bool
    archived: bool
    muted_until: str | None
    created_at: str
    updated_at: str


class Member(Resource):
    user: User
    role: Literal["owner", "admin", "member"]
    first_seq: int
    delivered_seq: int
    read_seq: int
    joined_at: str
    left_at: str | None = None
