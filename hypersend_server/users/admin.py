"""What administrators may do; every change is written to the audit trail together with it. Free of HTTP.

actor_id is the administrator, or None for the operator's command line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec
from msgspec import UNSET

from hypersend_server.clock import Clock, Entropy, rfc3339, rfc3339_or_none
from hypersend_server.codes import code_hash, new_code
from hypersend_server.cursors import page, position
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, InviteRecord, UserPatch, UserRecord
from hypersend_server.metadata.server import AuditEntry, ServerRecords
from hypersend_server.names import email_key
from hypersend_server.realtime.events import Bus, SessionsEnded
from hypersend_server.resources import Items
from hypersend_server.users.deletion import AccountDeletion
from hypersend_server.users.present import UserPresenter
from hypersend_server.users.types import AdminUser, AuditItem, Deleted, Invite, NewInvite, PatchUser, ServerStats

INVITE_TTL_S = 7 * 86_400


class AdminService:
    """users_changed: told whose rights are no longer what they were."""

    def __init__(
        self,
        accounts: Accounts,
        records: ServerRecords,
        bus: Bus,
        *,
        presenter: UserPresenter,
        deletion: AccountDeletion,
        users_changed: Callable[[Collection[str]], None],
        clock: Clock,
        new_id: Callable[[], str],
        entropy: Entropy,
    ) -> None:
        self._accounts = accounts
        self._records = records
        self._bus = bus
        self._presenter = presenter
        self._deletion = deletion
        self._users_changed = users_changed
        self._clock = clock
        self._new_id = new_id
        self._entropy = entropy

    async def list_users(self, cursor: str | None, limit: int) -> Items[AdminUser]:
        rows = await self._accounts.list_accounts(after_id=position(cursor) or "", limit=limit + 1)
        kept, following = page(rows, limit, lambda row: row.user.id)
        return Items(items=[self._presenter.account(row) for row in kept], next_cursor=following)

    async def find_user(self, email: str) -> UserRecord:
        """Raises: `not_found`."""
        found = await self._accounts.credentials(email_key(email))
        if found is None:
            raise HyperSendError("not_found", "Nobody has this e-mail.")
        return found.user

    async def patch_user(self, actor_id: str | None, user_id: str, patch: PatchUser) -> AdminUser:
        """Disabling ends all sessions at once. Raises: `not_found`, `last_admin`."""
        changes = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}
        account, ended = await self._accounts.patch_user(
            user_id,
            UserPatch(**changes),
            now_ms=self._clock(),
            audit=self._audit(actor_id, "user.change", user_id, msgspec.json.encode(changes).decode()),
        )
        self._users_changed([user_id])
        if ended:
            self._bus.publish(SessionsEnded(user_id, ended))
        return self._presenter.account(account)

    async def delete_user(self, actor_id: str | None, user_id: str) -> Deleted:
        """Raises: `not_found`, `last_admin`."""
        user = await self._accounts.get_user(user_id)
        if user is None or user.deleted_at is not None:
            raise HyperSendError("not_found", "There is no such person.")
        return await self._deletion.delete(user_id, self._audit(actor_id, "user.delete", user_id))

    async def add_invite(self, actor_id: str | None, request: NewInvite) -> Invite:
        """The answer alone has the code."""
        now, code = self._clock(), new_code(self._entropy)
        invite = InviteRecord(
            id=self._new_id(),
            makes_admin=bool(request.makes_admin),
            max_uses=request.max_uses or 1,
            uses=0,
            created_by=actor_id,
            created_at=now,
            expires_at=now + (request.expires_in or INVITE_TTL_S) * 1000,
        )
        detail = "makes administrators" if invite.makes_admin else ""
        await self._accounts.add_invite(invite, code_hash(code), self._audit(actor_id, "invite.add", invite.id, detail))
        return _shown(invite, code)

    async def list_invites(self, cursor: str | None, limit: int) -> Items[Invite]:
        rows = await self._accounts.list_invites(before_id=position(cursor), limit=limit + 1)
        kept, following = page(rows, limit, lambda row: row.id)
        return Items(items=[_shown(row) for row in kept], next_cursor=following)

    async def delete_invite(self, actor_id: str | None, invite_id: str) -> None:
        """Raises: `not_found`."""
        await self._accounts.delete_invite(invite_id, self._audit(actor_id, "invite.delete", invite_id))

    async def stats(self) -> ServerStats:
        return msgspec.convert(await self._accounts.stats(), ServerStats, from_attributes=True)

    async def audit(self, cursor: str | None, limit: int) -> Items[AuditItem]:
        rows = await self._records.list_audit(position(cursor), limit + 1)
        kept, following = page(rows, limit, lambda row: row.id)
        return Items(
            next_cursor=following,
            items=[
                AuditItem(
                    id=row.id,
                    at=rfc3339(row.at),
                    actor_id=row.actor_id,
                    action=row.action,
                    target=row.target,
                    detail=row.detail,
                )
                for row in kept
            ],
        )

    def _audit(self, actor_id: str | None, action: str, target: str, detail: str = "") -> AuditEntry:
        return AuditEntry(
            id=self._new_id(), at=self._clock(), actor_id=actor_id, action=action, target=target, detail=detail
        )


def _shown(invite: InviteRecord, code: str | None = None) -> Invite:
    return Invite(
        id=invite.id,
        code=code,
        makes_admin=invite.makes_admin,
        max_uses=invite.max_uses,
        uses=invite.uses,
        created_by=invite.created_by,
        created_at=rfc3339(invite.created_at),
        expires_at=rfc3339_or_none(invite.expires_at),
    )
