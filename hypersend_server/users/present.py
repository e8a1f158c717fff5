"""People as the API shows them: to others, to themselves, to administrators."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from hypersend_server.clock import rfc3339, rfc3339_or_none
from hypersend_server.metadata.accounts import Accounts, UserAccount, UserRecord, UserView
from hypersend_server.resources import Me, User
from hypersend_server.users.types import AdminUser


class UserPresenter:
    """online: whether a person has a socket open anywhere. picture_url: the signed path of a picture."""

    def __init__(self, accounts: Accounts, picture_url: Callable[[str], str], online: Callable[[str], bool]) -> None:
        self._accounts = accounts
        self._picture_url = picture_url
        self._online = online

    async def users(self, ids: Collection[str], viewer_id: str) -> dict[str, User]:
        """These people as viewer_id sees them; ids that never were are left out. One read, however many."""
        views = await self._accounts.view_users(ids, viewer_id)
        return {user_id: self.view(view) for user_id, view in views.items()}

    async def visible(self, viewer_id: str, user_ids: Collection[str]) -> Mapping[str, int | None]:
        """Those whose presence viewer_id may see, with their last_seen_at (Unix milliseconds)."""
        views = await self._accounts.view_users(user_ids, viewer_id)
        return {user_id: view.user.last_seen_at for user_id, view in views.items() if view.presence_visible}

    def views(self, views: Iterable[UserView]) -> list[User]:
        return [self.view(view) for view in views]

    def view(self, view: UserView) -> User:
        user, gone = view.user, view.user.deleted_at is not None
        shown = view.presence_visible and not gone
        return User(
            id=user.id,
            username=None if gone else user.username,
            display_name="" if gone else user.display_name,
            about="" if gone else user.about,
            avatar_url=None if gone else self._avatar_url(user),
            last_seen_at=rfc3339_or_none(user.last_seen_at) if shown else None,
            online=shown and self._online(user.id),
        )

    def me(self, user: UserRecord) -> Me:
        return Me(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            about=user.about,
            avatar_url=self._avatar_url(user),
            last_seen_at=rfc3339_or_none(user.last_seen_at),
            online=self._online(user.id),
            email=user.email or "",
            is_admin=user.is_admin,
        )

    def account(self, account: UserAccount) -> AdminUser:
        user = account.user
        return AdminUser(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            about=user.about,
            avatar_url=self._avatar_url(user),
            last_seen_at=rfc3339_or_none(user.last_seen_at),
            online=self._online(user.id),
            email=user.email or "",
            is_admin=user.is_admin,
            disabled=user.disabled,
            quota_bytes=user.quota_bytes,
            used_bytes=account.used_bytes,
            sessions=account.sessions,
            created_at=rfc3339(user.created_at),
        )

    def _avatar_url(self, user: UserRecord) -> str | None:
        return None if user.avatar_id is None else self._picture_url(user.avatar_id)
