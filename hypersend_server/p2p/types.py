"""What the calls about transfers take and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hypersend_server.resources import MEDIA_TYPE, Body, ClientId, Id, Page, Resource


class SendBody(Body, frozen=True):
    """receiver_id: in a group, the one who may accept; nobody named: the first member who does."""

    chat_id: Id
    name: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    client_id: ClientId
    receiver_id: Id | None = None
    mime: Annotated[str, Meta(max_length=255, pattern=MEDIA_TYPE)] | None = None


class VouchBody(Body, frozen=True):
    """vouch: 64 hex digits, which only the receiver's device can check."""

    vouch: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class HistoryQuery(Page, frozen=True):
    """Newest first."""


class Transfer(Resource):
    """One file on its way from one device to another. sender_key, receiver_key: X25519, base64url.

    transferred_bytes: verified by the receiver. file_id: the stored upload it was turned into. vouch: what the
    sender's device says of that one's content, for the receiver's device alone.
    """

    id: str
    chat_id: str
    message_id: str
    client_id: str
    sender_id: str
    sender_session: str
    sender_key: str | None
    receiver_id: str | None
    receiver_session: str | None
    receiver_key: str | None
    name: str
    size: int
    mime: str
    status: Literal["offered", "accepted", "active", "paused", "done", "declined", "cancelled", "expired", "failed"]
    transferred_bytes: int
    file_id: str | None
    vouch: str | None
    created_at: str
    updated_at: str
    expires_at: str
