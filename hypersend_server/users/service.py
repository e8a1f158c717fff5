"""The rules of profiles, search and blocks. Free of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import UNSET

from hypersend_server.clock import Clock
from hypersend_server.cursors import page, position
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, PictureRecord, UserRecord
from hypersend_server.names import clean_name, email_key, name_key
from hypersend_server.resources import Items, Me, User
from hypersend_server.users.deletion import AccountDeletion
from hypersend_server.users.present import UserPresenter
from hypersend_server.users.types import Deleted, PatchMe, StorageUse


class UserService:
    """storage_use: (used bytes, reserved bytes, files) of a person. default_quota None: no limit.

    check_password: raises where it is wrong. avatar: (mime, data) of a picture made fit to be one. on_blocked: awaited
    with who blocks, and whom.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        presenter: UserPresenter,
        deletion: AccountDeletion,
        check_password: Callable[[str, str], Awaitable[object]],
        avatar: Callable[[bytes], Awaitable[tuple[str, bytes]]],
        storage_use: Callable[[str], Awaitable[tuple[int, int, int]]],
        on_blocked: Callable[[str, str], Awaitable[object]],
        default_quota: int | None,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._accounts = accounts
        self._presenter = presenter
        self._deletion = deletion
        self._check_password = check_password
        self._avatar = avatar
        self._storage_use = storage_use
        self._on_blocked = on_blocked
        self._default_quota = default_quota
        self._clock = clock
        self._new_id = new_id

    async def me(self, user_id: str) -> Me:
        return self._presenter.me(await self._require(user_id))

    async def update_me(self, user_id: str, patch: PatchMe) -> Me:
        display_name = None if patch.display_name is UNSET else clean_name(patch.display_name)
        about = None if patch.about is UNSET else patch.about or ""
        return self._presenter.me(
            await self._accounts.update_profile(
                user_id,
                display_name=display_name,
                about=about,
                name_key=None if display_name is None else name_key(display_name),
            )
        )

    async def set_avatar(self, user_id: str, data: bytes) -> Me:
        """data: as the person sent it. Raises: `picture_invalid`, `busy`."""
        mime, made = await self._avatar(data)
        return self._presenter.me(await self._accounts.set_avatar(user_id, PictureRecord(self._new_id(), mime, made)))

    async def remove_avatar(self, user_id: str) -> None:
        await self._accounts.set_avatar(user_id, None)

    async def storage(self, user_id: str) -> StorageUse:
        user = await self._require(user_id)
        used, reserved, files = await self._storage_use(user_id)
        quota = self._default_quota if user.quota_bytes is None else user.quota_bytes
        return StorageUse(used_bytes=used, reserved_bytes=reserved, quota_bytes=quota, files=files)

    async def delete_me(self, user_id: str, password: str) -> Deleted:
        """Raises: `password_wrong`, `last_admin`, `rate_limited`, `busy`."""
        await self._check_password(user_id, password)
        return await self._deletion.delete(user_id)

    async def search(self, viewer_id: str, query: str, cursor: str | None, limit: int) -> Items[User]:
        """Username or display name by prefix (`@` before it is dropped); an e-mail only whole."""
        text = query.strip()
        rows = await self._accounts.search_users(
            viewer_id,
            username_prefix=text.removeprefix("@").lower(),
            name_prefix=name_key(text),
            email_key=email_key(text) if "@" in text else "",
            after=position(cursor) or "",
            limit=limit + 1,
        )
        kept, following = page(rows, limit, lambda view: view.user.username or "")
        return Items(items=self._presenter.views(kept), next_cursor=following)

    async def get(self, viewer_id: str, user_id: str) -> User:
        """Raises: `not_found`."""
        view = (await self._accounts.view_users([user_id], viewer_id)).get(user_id)
        if view is None or view.user.deleted_at is not None:
            raise HyperSendError("not_found", "There is no such person.")
        return self._presenter.view(view)

    async def blocks(self, user_id: str, cursor: str | None, limit: int) -> Items[User]:
        rows = await self._accounts.list_blocks(user_id, after_id=position(cursor) or "", limit=limit + 1)
        kept, following = page(rows, limit, lambda view: view.user.id)
        return Items(items=self._presenter.views(kept), next_cursor=following)

    async def block(self, user_id: str, blocked_id: str) -> None:
        """Raises: `not_found`, `validation_failed` for oneself."""
        if user_id == blocked_id:
            raise HyperSendError(
                "validation_failed",
                "One cannot block oneself.",
                errors=[{"field": "user_id", "problem": "is your own"}],
            )
        await self._accounts.block(user_id, blocked_id, now_ms=self._clock())
        await self._on_blocked(user_id, blocked_id)

    async def unblock(self, user_id: str, blocked_id: str) -> None:
        await self._accounts.unblock(user_id, blocked_id)

    async def _require(self, user_id: str) -> UserRecord:
        user = await self._accounts.get_user(user_id)
        if user is None:
            raise HyperSendError("not_found", "There is no such person.")
        return user
