"""Bodies and answers of /api/v1/users and /api/v1/admin."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from hypersend_server.names import About, DisplayName
from hypersend_server.resources import Body, Me, Page, Resource

Quota = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class PatchMe(Body, frozen=True):
    """What is absent stays; null empties `about`."""

    display_name: DisplayName | msgspec.UnsetType = msgspec.UNSET
    about: About | msgspec.UnsetType | None = msgspec.UNSET


class DeleteMe(Body, frozen=True):
    password: Annotated[str, Meta(max_length=1024)]


class Deleted(Resource):
    """What ended with the account: how many of each."""

    user_id: str
    removed: dict[str, int]


class StorageUse(Resource):
    """quota_bytes null: no limit. reserved_bytes: of uploads under way. files: complete ones."""

    used_bytes: int
    reserved_bytes: int
    quota_bytes: int | None
    files: int


class UserSearch(Page, frozen=True, kw_only=True):
    q: Annotated[str, Meta(min_length=1, max_length=254)]


class AdminUser(Me):
    """quota_bytes null: the server's default. used_bytes: of complete files. sessions: devices signed in."""

    disabled: bool
    quota_bytes: int | None
    used_bytes: int
    sessions: int
    created_at: str


class PatchUser(Body, frozen=True):
    """What is absent stays; null gives the server's default quota back."""

    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    is_admin: bool | msgspec.UnsetType = msgspec.UNSET
    quota_bytes: Quota | msgspec.UnsetType | None = msgspec.UNSET


MIN_INVITE_S, MAX_INVITE_S = 60, 10 * 365 * 86_400
MAX_INVITE_USES = 1000


class NewInvite(Body, frozen=True):
    """max_uses: 1 where absent. expires_in: seconds, a week where absent."""

    max_uses: Annotated[int, Meta(ge=1, le=MAX_INVITE_USES)] | None = None
    expires_in: Annotated[int, Meta(ge=MIN_INVITE_S, le=MAX_INVITE_S)] | None = None
    makes_admin: bool | None = None


class Invite(Resource):
    """code: only in the answer that made it; it is not kept."""

    id: str
    code: str | None
    makes_admin: bool
    max_uses: int
    uses: int
    created_by: str | None
    created_at: str
    expires_at: str | None


class ServerStats(Resource):
    users: int
    disabled_users: int
    administrators: int
    sessions: int
    chats: int
    messages: int
    files: int
    file_bytes: int
    uploads: int
    upload_bytes: int


class AuditItem(Resource):
    """actor_id null: the operator's command line."""

    id: str
    at: str
    actor_id: str | None
    action: str
    target: str
    detail: str
