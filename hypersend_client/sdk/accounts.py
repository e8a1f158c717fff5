"""Accounts: oneself, one's devices, other people, and what administrators may do."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypersend_client.sdk.models import AuditEntry, Device, Invite, Page, StorageUse, User
from hypersend_client.sdk.pages import items_of, items_of_all, page_of, read
from hypersend_client.sdk.transport import Transport

_KEEP: Any = object()


class Me:
    """One's own account: `/users/me` and `/auth`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def get(self) -> User:
        return read(User, await self._http.call("GET", "/users/me"))

    async def update(self, *, display_name: str | None = _KEEP, about: str | None = _KEEP) -> User:
        """What is not named stays; None clears."""
        changes = {"display_name": display_name, "about": about}
        body = {name: value for name, value in changes.items() if value is not _KEEP}
        return read(User, await self._http.call("PATCH", "/users/me", json=body, idempotent=True))

    async def delete(self, password: str) -> dict[str, Any]:
        """Delete the account for good; answers counts of what went. Raises: ApiError `password_wrong`."""
        answer = await self._http.call("DELETE", "/users/me", json={"password": password}, idempotent=False)
        return answer.data if isinstance(answer.data, dict) else {}

    async def set_avatar(self, image: bytes) -> User | None:
        """At most 2 MiB of an image. Raises: ApiError `picture_invalid`, `body_too_large`."""
        answer = await self._http.call(
            "PUT", "/users/me/avatar", body=image, headers={"Content-Type": "application/octet-stream"}
        )
        return read(User, answer) if answer.data is not None else None

    async def remove_avatar(self) -> None:
        await self._http.call("DELETE", "/users/me/avatar")

    async def storage(self) -> StorageUse:
        return read(StorageUse, await self._http.call("GET", "/users/me/storage"))

    async def set_password(self, current: str, new: str) -> None:
        """Other sessions end. Raises: ApiError `password_wrong`, `validation_failed`."""
        await self._http.call(
            "PUT", "/auth/password", json={"current_password": current, "new_password": new}, idempotent=False
        )

    async def devices(self) -> list[Device]:
        """The sessions of this account."""
        return items_of(Device, await self._http.call("GET", "/auth/sessions"))

    async def end_device(self, session_id: str) -> None:
        await self._http.call("DELETE", f"/auth/sessions/{quote(session_id, safe='')}")

    async def set_device_key(self, public_key: str) -> None:
        """public_key: X25519, base64url; of this session's device."""
        await self._http.call("PUT", "/auth/device-key", json={"public_key": public_key})

    async def blocks(self) -> list[User]:
        """All of them."""
        return await items_of_all(
            User, lambda cursor: self._http.call("GET", "/users/me/blocks", query={"limit": 200, "cursor": cursor}))

    async def block(self, user_id: str) -> None:
        await self._http.call("PUT", f"/users/me/blocks/{quote(user_id, safe='')}")

    async def unblock(self, user_id: str) -> None:
        await self._http.call("DELETE", f"/users/me/blocks/{quote(user_id, safe='')}")


class Users:
    """Other people."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def get(self, user_id: str) -> User:
        return read(User, await self._http.call("GET", f"/users/{quote(user_id, safe='')}"))

    async def find(self, text: str, *, limit: int = 50, cursor: str | None = None) -> Page[User]:
        """By the beginning of a user name or display name; an e-mail only whole."""
        return page_of(
            User, await self._http.call("GET", "/users", query={"q": text, "limit": limit, "cursor": cursor})
        )


class Admin:
    """For administrators; others get ApiError `not_allowed`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def users(self, *, limit: int = 50, cursor: str | None = None) -> Page[User]:
        return page_of(User, await self._http.call("GET", "/admin/users", query={"limit": limit, "cursor": cursor}))

    async def update_user(
        self,
        user_id: str,
        *,
        disabled: bool = _KEEP,
        is_admin: bool = _KEEP,
        quota_bytes: int | None = _KEEP,
    ) -> User:
        """What is not named stays; a quota of None is the server's default."""
        changes = {"disabled": disabled, "is_admin": is_admin, "quota_bytes": quota_bytes}
        body = {name: value for name, value in changes.items() if value is not _KEEP}
        return read(
            User,
            await self._http.call("PATCH", f"/admin/users/{quote(user_id, safe='')}", json=body, idempotent=True),
        )

    async def delete_user(self, user_id: str) -> None:
        await self._http.call("DELETE", f"/admin/users/{quote(user_id, safe='')}")

    async def invites(self) -> list[Invite]:
        return items_of(Invite, await self._http.call("GET", "/admin/invites"))

    async def make_invite(self, *, max_uses: int = 1, expires_in: int | None = None) -> Invite:
        """expires_in: seconds. The code is told this once."""
        body: dict[str, Any] = {"max_uses": max_uses}
        if expires_in is not None:
            body["expires_in"] = expires_in
        return read(Invite, await self._http.call("POST", "/admin/invites", json=body))

    async def delete_invite(self, invite_id: str) -> None:
        await self._http.call("DELETE", f"/admin/invites/{quote(invite_id, safe='')}")

    async def stats(self) -> dict[str, Any]:
        answer = await self._http.call("GET", "/admin/stats")
        return answer.data if isinstance(answer.data, dict) else {}

    async def audit(self, *, limit: int = 50, cursor: str | None = None) -> Page[AuditEntry]:
        return page_of(
            AuditEntry, await self._http.call("GET", "/admin/audit", query={"limit": limit, "cursor": cursor})
        )
