"""Records and contract of accounts: people, their sessions and pictures, invites, resets, blocks, failed guesses.

Times are Unix milliseconds, sizes bytes. `email_key` and `name_key` are what comparing without case looks at;
callers make them (`names`). Codes and tokens never reach this layer, only their SHA-256 or their parts.

Ends of sessions and every change of a person bump `changed`, so that other processes notice by polling
(`changed_since`); marks of use (`last_seen_at`, `used_at`) do not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from hypersend_server.metadata.server import AuditEntry

FIRST_INVITE = "first"
"""Id of the invite that makes the first administrator; void as soon as there is one."""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A person. Once deleted_at is set, e-mail, username and names are about to go or gone.

    quota_bytes None: the server's default. avatar_id: of a picture.
    """

    id: str
    email: str | None
    username: str | None
    display_name: str
    about: str
    is_admin: bool
    disabled: bool
    quota_bytes: int | None
    avatar_id: str | None
    created_at: int
    last_seen_at: int | None
    deleted_at: int | None
    changed: int


class UserView(msgspec.Struct, frozen=True):
    """A person as one other sees them. presence_visible: they share a chat and neither blocks the other."""

    user: UserRecord
    presence_visible: bool


class UserAccount(msgspec.Struct, frozen=True):
    """A person as an administrator sees them. used_bytes: of complete files. sessions: live ones."""

    user: UserRecord
    used_bytes: int
    sessions: int


class Credentials(NamedTuple):
    user: UserRecord
    password_hash: str


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    email: str
    email_key: str
    username: str
    display_name: str
    name_key: str
    password_hash: str
    is_admin: bool = False


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One device's session. generation: of the newest pair of tokens, made at rotated_at.

    used_at: when a token of that pair was first presented. salt: 16 bytes that the refresh tokens are made with.
    device_key: X25519 public key, base64url. web_secret: SHA-256 of the secret in the cookie of the one browser that
    keeps this session; None: a device does.
    """

    id: str
    user_id: str
    device: str
    ip: str
    salt: bytes
    generation: int
    rotated_at: int
    used_at: int | None
    device_key: str | None
    created_at: int
    last_seen_at: int
    ended_at: int | None
    web_secret: bytes | None = None

    @property
    def kind(self) -> Literal["device", "web"]:
        return "device" if self.web_secret is None else "web"


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    device: str
    ip: str
    salt: bytes


class LiveSession(NamedTuple):
    """A session that has not ended, with its person, who is neither disabled nor deleted."""

    session: SessionRecord
    user: UserRecord


class SessionUse(NamedTuple):
    """A token of this generation was presented at `at`, from `ip` ('': nobody knows)."""

    session_id: str
    generation: int
    at: int
    ip: str


class Refreshed(NamedTuple):
    """What a refresh token was worth.

    rotated: it was of the newest pair; `session` has the next. repeated: of the pair before, and may get the
    newest again. reused: too old; the session has ended by this. ended: it, or its person, was gone before.
    """

    outcome: Literal["rotated", "repeated", "reused", "ended"]
    session: SessionRecord | None = None
    user: UserRecord | None = None


class InviteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """created_by None: the operator's command line, or the first start. expires_at None: never."""

    id: str
    makes_admin: bool
    max_uses: int
    uses: int
    created_by: str | None
    created_at: int
    expires_at: int | None


class PictureRecord(msgspec.Struct, frozen=True):
    """An avatar or a preview, re-encoded by the server."""

    id: str
    mime: str
    data: bytes


class GuessLimit(NamedTuple):
    """free: failures without a wait; each further one doubles it, from 2 s to at most cap_s."""

    key: str
    free: int
    cap_s: int

    def wait_ms(self, failures: int) -> int:
        """How long after its `failures`-th failure the next attempt must wait."""
        return 0 if failures < self.free else min(self.cap_s, 2 ** min(failures - self.free + 1, 30)) * 1000


class Changes(NamedTuple):
    """What was changed after a stamp; `stamp` is the one to ask with next.

    ended: (session id, user id) pairs. users: ids of people of whom anything changed.
    """

    stamp: int
    ended: list[tuple[str, str]]
    users: list[str]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
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


class UserPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator may set; UNSET leaves. quota_bytes None: the server's default again."""

    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    is_admin: bool | msgspec.UnsetType = msgspec.UNSET
    quota_bytes: int | msgspec.UnsetType | None = msgspec.UNSET


class Accounts(Protocol):
    # people

    async def create_user(
        self,
        user: NewUser,
        *,
        now_ms: int,
        invite_hash: bytes | None = None,
        session: NewSession | None = None,
        audit: AuditEntry | None = None,
    ) -> UserRecord:
        """Insert the person and their first session, and count the invite, or nothing of it.

        Raises: `invite_invalid` (unknown, used up, expired), `email_taken`, `username_taken`.
        """

    async def credentials(self, email_key: str) -> Credentials | None:
        """None where nobody has this e-mail, or the account was deleted."""

    async def credentials_of(self, user_id: str) -> Credentials | None: ...

    async def get_user(self, user_id: str) -> UserRecord | None:
        """Also of deleted people."""

    async def view_users(self, user_ids: Collection[str], viewer_id: str) -> dict[str, UserView]:
        """Those of these people that exist, deleted ones too, as viewer_id sees them; one read."""

    async def search_users(
        self,
        viewer_id: str,
        *,
        username_prefix: str,
        name_prefix: str,
        email_key: str,
        after: str,
        limit: int,
    ) -> list[UserView]:
        """By username, those above `after`; without deleted and disabled people and where one blocks the other.

        An empty prefix finds nobody.
        """

    async def update_profile(
        self,
        user_id: str,
        *,
        display_name: str | None = None,
        name_key: str | None = None,
        about: str | None = None,
    ) -> UserRecord:
        """None leaves. Raises: `not_found`."""

    async def set_avatar(self, user_id: str, picture: PictureRecord | None) -> UserRecord:
        """Replace or remove the avatar; the old picture goes. Raises: `not_found`."""

    async def get_picture(self, picture_id: str) -> PictureRecord | None: ...

    async def set_last_seen(self, seen: Mapping[str, int]) -> None:
        """When people were last connected; never goes backwards."""

    async def set_password(
        self,
        user_id: str,
        *,
        old_hash: str,
        new_hash: str,
        keep_session_id: str | None,
        now_ms: int,
    ) -> list[str] | None:
        """Ends the other sessions and voids reset codes; answers which sessions ended.

        None, and nothing happened, where the hash is not old_hash any more.
        """

    async def replace_hash(self, user_id: str, old_hash: str, new_hash: str) -> None:
        """The same password under newer parameters; nothing else changes."""

    # deleting an account: marked first, so that whatever cuts it off, it is finished later

    async def begin_deletion(self, user_id: str, *, now_ms: int, audit: AuditEntry | None = None) -> list[str]:
        """Mark the account deleted and end its sessions; answers which. Repeating is harmless.

        Raises: `not_found`, `last_admin`.
        """

    async def finish_deletion(self, user_id: str) -> None:
        """Take e-mail, names, password, avatar, blocks and codes away from an account that is marked deleted."""

    async def unfinished_deletions(self) -> list[str]:
        """Ids of people marked deleted who still have personal data."""

    # sessions

    async def create_session(self, session: NewSession, *, now_ms: int) -> LiveSession:
        """With generation 1. Raises: `account_disabled`, `not_found` (deleted)."""

    async def get_session(self, session_id: str) -> SessionRecord | None:
        """Also one that has ended."""

    async def live_session(self, session_id: str) -> LiveSession | None: ...

    async def list_sessions(self, user_id: str, *, before_id: str | None, limit: int) -> list[SessionRecord]:
        """Live ones, newest first."""

    async def refresh(self, session_id: str, generation: int, *, now_ms: int, grace_ms: int, ip: str) -> Refreshed:
        """Present a refresh token of this generation; the token itself was checked by the caller.

        The newest one rotates the session to the next pair. The one before gets the newest pair again while that
        was not used, or for grace_ms after it first was. Anything else ends the session. A session of kind `web` has
        no refresh tokens any more: `ended`, and it lives on.
        """

    async def keep_web_session(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        """Make this person's live session one of kind `web`; False, and nothing happened, where it has ended or is
        one already.
        """

    async def note_uses(self, uses: Sequence[SessionUse]) -> None:
        """Move last_seen_at and ip on, and set used_at where the generation is the newest and was not used yet."""

    async def end_sessions(
        self,
        user_id: str,
        *,
        now_ms: int,
        only_id: str | None = None,
        except_id: str | None = None,
    ) -> list[str]:
        """End this one, or all but one, or all of the person's live sessions; answers which ended."""

    async def set_device_key(self, session_id: str, public_key: str) -> None: ...

    async def changed_since(self, stamp: int | None) -> Changes:
        """None: only the present stamp."""

    # blocks

    async def block(self, user_id: str, blocked_id: str, *, now_ms: int) -> None:
        """Repeating is harmless. Raises: `not_found`."""

    async def unblock(self, user_id: str, blocked_id: str) -> None: ...

    async def list_blocks(self, user_id: str, *, after_id: str, limit: int) -> list[UserView]:
        """Whom this person blocks, by id, those above after_id."""

    # invites and resets

    async def add_invite(self, invite: InviteRecord, code_hash: bytes, audit: AuditEntry) -> None: ...

    async def get_invite(self, code_hash: bytes, *, now_ms: int) -> InviteRecord | None:
        """None where the code is unknown, used up or expired."""

    async def list_invites(self, *, before_id: str | None, limit: int) -> list[InviteRecord]:
        """Newest first; used up and expired ones too."""

    async def delete_invite(self, invite_id: str, audit: AuditEntry) -> None:
        """Raises: `not_found`."""

    async def renew_first_invite(self, code_hash: bytes, *, now_ms: int) -> bool:
        """While there is no administrator: this code, once, makes one, and an earlier one is void.

        False, and none is left, where there is an administrator.
        """

    async def add_reset(self, user_id: str, code_hash: bytes, *, expires_at: int, audit: AuditEntry) -> None:
        """Replaces an earlier one of the person."""

    async def get_reset(self, code_hash: bytes, *, now_ms: int) -> str | None:
        """Whose password this code may set."""

    async def use_reset(self, code_hash: bytes, new_hash: str, *, now_ms: int) -> tuple[str, list[str]] | None:
        """Set the password and end all sessions: (user id, ended session ids). The code is void after.

        None where the code is unknown, used or expired.
        """

    # administration

    async def list_accounts(self, *, after_id: str, limit: int) -> list[UserAccount]:
        """By id, without deleted ones."""

    async def patch_user(
        self,
        user_id: str,
        patch: UserPatch,
        *,
        now_ms: int,
        audit: AuditEntry,
    ) -> tuple[UserAccount, list[str]]:
        """(the account now, sessions that ended by disabling it). Raises: `not_found`, `last_admin`."""

    async def stats(self) -> Stats: ...

    # guesses

    async def guess_wait(self, limits: Sequence[GuessLimit], *, now_ms: int) -> int:
        """Milliseconds until none of these keys has to wait any more; 0: go on."""

    async def is_known(self, key: str) -> bool:
        """Whether `guess_succeeded` remembered the key and it is not forgotten."""

    async def guess_failed(self, limits: Sequence[GuessLimit], *, now_ms: int, forget_after_ms: int) -> None:
        """Count a failure on each key; one that had none for forget_after_ms starts anew."""

    async def guess_succeeded(self, clear: Sequence[str], *, now_ms: int, remember: str | None = None) -> None: ...

    async def tidy(self, *, guesses_before: int, known_before: int, sessions_before: int, now_ms: int) -> None:
        """Forget failures and known keys not touched since, sessions that ended before, expired codes."""
