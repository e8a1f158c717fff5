"""The rules of registering, signing in, and sessions. Free of HTTP."""

from __future__ import annotations

from collections.abc import Callable

from hypersend_server.auth.guesses import Guesses
from hypersend_server.auth.live_sessions import LiveSessions
from hypersend_server.auth.operator import new_user
from hypersend_server.auth.passwords import Passwords
from hypersend_server.auth.tokens import ACCESS_TTL_S, AccessTokens, RefreshTokens
from hypersend_server.auth.types import Login, Register, Session, SessionInfo
from hypersend_server.clock import Clock, Entropy, rfc3339
from hypersend_server.codes import code_hash
from hypersend_server.cursors import page, position
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, NewSession, SessionRecord, UserRecord
from hypersend_server.names import email_key
from hypersend_server.realtime.events import Bus, SessionsEnded
from hypersend_server.resources import Items, Me
from hypersend_server.signer import b64, unb64

REFRESH_GRACE_MS = 60_000
MAX_SESSIONS = 100  # of one person; what signs in beyond it ends those that were away the longest


class AuthService:
    """registration: open, invite or closed. present_me: oneself as the API shows it."""

    def __init__(
        self,
        accounts: Accounts,
        bus: Bus,
        *,
        registration: str,
        passwords: Passwords,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        sessions: LiveSessions,
        guesses: Guesses,
        present_me: Callable[[UserRecord], Me],
        clock: Clock,
        new_id: Callable[[], str],
        entropy: Entropy,
    ) -> None:
        self._accounts = accounts
        self._bus = bus
        self._registration = registration
        self._passwords = passwords
        self._access = access_tokens
        self._refresh = refresh_tokens
        self._sessions = sessions
        self._guesses = guesses
        self._present_me = present_me
        self._clock = clock
        self._new_id = new_id
        self._entropy = entropy

    async def register(self, request: Register, address: str) -> Session:
        """Raises: `registration_closed`, `invite_required`, `invite_invalid`, `email_taken`, `username_taken`,
        `rate_limited`, `busy`.
        """
        failures, made = self._guesses.of_code("register", address), self._guesses.of_registered(address)
        await self._guesses.check([*failures, *made])
        invite = None if request.invite is None else code_hash(request.invite)
        try:
            await self._require_admission(invite)
            user = new_user(self._new_id(), request, await self._passwords.hash(request.password))
            session = self._new_session(user.id, request.device, address)
            record = await self._accounts.create_user(user, now_ms=self._clock(), invite_hash=invite, session=session)
        except HyperSendError as error:
            if error.code in ("invite_invalid", "email_taken", "username_taken"):
                await self._guesses.count(failures)
            raise
        await self._guesses.count(made)
        stored = await self._accounts.get_session(session.id)
        assert stored is not None
        return self._pair(stored, record)

    async def _require_admission(self, invite: bytes | None) -> None:
        """Refuse before the costly hash; what must hold at the insert is checked there again."""
        if invite is None:
            if self._registration == "closed":
                raise HyperSendError("registration_closed")
            if self._registration == "invite":
                raise HyperSendError("invite_required")
        else:
            found = await self._accounts.get_invite(invite, now_ms=self._clock())
            if found is None:
                raise HyperSendError("invite_invalid")
            # Closed is closed, but a server without an administrator must be able to get one.
            if self._registration == "closed" and not found.makes_admin:
                raise HyperSendError("registration_closed")

    def _new_session(self, user_id: str, device: str | None, address: str) -> NewSession:
        return NewSession(
            id=self._new_id(), user_id=user_id, device=(device or "").strip(), ip=address, salt=self._entropy(16)
        )

    async def login(self, request: Login, address: str) -> Session:
        """Costs the same whether the account exists or not.

        Raises: `credentials_invalid`, `account_disabled` (only to who knows the password), `rate_limited`, `busy`.
        """
        key = email_key(request.email)
        async with self._guesses.signing_in(key, address) as attempt:
            found = await self._accounts.credentials(key)
            right, renewed = await self._passwords.verify(
                request.password, None if found is None else found.password_hash
            )
            if found is None or not right:
                await attempt.failed()
                raise HyperSendError("credentials_invalid")
            await attempt.succeeded()
        if renewed is not None:
            await self._accounts.replace_hash(found.user.id, found.password_hash, renewed)
        session = self._new_session(found.user.id, request.device, address)
        live = await self._accounts.create_session(session, now_ms=self._clock())
        await self._end_too_many(session)
        return self._pair(live.session, live.user)

    async def _end_too_many(self, new: NewSession) -> None:
        # Some above the limit, so that what many at once left over is caught up with.
        rows = await self._accounts.list_sessions(new.user_id, before_id=new.id, limit=MAX_SESSIONS + 20)
        rows.sort(key=lambda row: row.last_seen_at, reverse=True)
        for row in rows[MAX_SESSIONS - 1 :]:
            self._ended(new.user_id, await self._accounts.end_sessions(
                new.user_id, now_ms=self._clock(), only_id=row.id))

    async def refresh(self, token: str, address: str) -> Session:
        """Raises: `token_invalid`, `session_ended`, `refresh_reused`."""
        session_id, generation = self._refresh.read(token)
        self._refresh.check(token, await self._accounts.get_session(session_id))
        # A use of the newest pair that is still on its way to the database decides what the older one is worth.
        await self._sessions.flush()
        now = self._clock()
        found = await self._accounts.refresh(session_id, generation, now_ms=now, grace_ms=REFRESH_GRACE_MS, ip=address)
        if found.session is None or found.user is None:
            raise HyperSendError("session_ended")
        if found.outcome == "reused":
            self._ended(found.user.id, [session_id])
            raise HyperSendError("refresh_reused")
        return self._pair(found.session, found.user)

    def _pair(self, session: SessionRecord, user: UserRecord) -> Session:
        # Callers at the same time get the very same pair; one that comes later gets a token of full age.
        now = self._clock()
        issued_at = session.rotated_at if now - session.rotated_at < REFRESH_GRACE_MS else now
        return Session(
            access_token=self._access.issue(session, issued_at),
            refresh_token=self._refresh.issue(session),
            token_type="Bearer",  # noqa: S106
            expires_in=ACCESS_TTL_S - max(0, now // 1000 - issued_at // 1000),
            session_id=session.id,
            user=self._present_me(user),
        )

    def _ended(self, user_id: str, session_ids: list[str]) -> None:
        if session_ids:
            self._bus.publish(SessionsEnded(user_id, session_ids))

    async def list_sessions(self, user_id: str, session_id: str, cursor: str | None, limit: int) -> Items[SessionInfo]:
        rows = await self._accounts.list_sessions(user_id, before_id=position(cursor), limit=limit + 1)
        kept, following = page(rows, limit, lambda row: row.id)
        return Items(
            next_cursor=following,
            items=[
                SessionInfo(
                    id=row.id,
                    device=row.device,
                    ip=row.ip,
                    created_at=rfc3339(row.created_at),
                    last_seen_at=rfc3339(row.last_seen_at),
                    current=row.id == session_id,
                )
                for row in kept
            ],
        )

    async def end_session(self, user_id: str, session_id: str) -> None:
        """Raises: `not_found` where the person has no such session."""
        ended = await self._accounts.end_sessions(user_id, now_ms=self._clock(), only_id=session_id)
        if not ended:
            raise HyperSendError("not_found", "There is no such session.")
        self._ended(user_id, ended)

    async def logout(self, user_id: str, session_id: str) -> None:
        self._ended(user_id, await self._accounts.end_sessions(user_id, now_ms=self._clock(), only_id=session_id))

    async def set_device_key(self, session_id: str, public_key: str) -> None:
        """public_key: 32 bytes in base64url without padding."""
        await self._accounts.set_device_key(session_id, b64(unb64(public_key)))

    async def check_password(self, user_id: str, password: str) -> str:
        """Somebody who is signed in confirms with their password; answers its hash.

        Raises: `password_wrong`, `rate_limited`, `busy`.
        """
        async with self._guesses.confirming(user_id) as attempt:
            found = await self._accounts.credentials_of(user_id)
            right, _ = await self._passwords.verify(password, None if found is None else found.password_hash)
            if found is None or not right:
                await attempt.failed()
                raise HyperSendError("password_wrong")
            await attempt.succeeded()
        return found.password_hash

    async def change_password(self, user_id: str, session_id: str, current: str, new: str) -> None:
        """Other sessions end. Raises: `password_wrong`, `rate_limited`, `busy`."""
        old_hash = await self.check_password(user_id, current)
        ended = await self._accounts.set_password(
            user_id,
            old_hash=old_hash,
            new_hash=await self._passwords.hash(new),
            keep_session_id=session_id,
            now_ms=self._clock(),
        )
        if ended is None:
            raise HyperSendError("password_wrong", "The password was changed a moment ago.")
        self._ended(user_id, ended)

    async def reset_password(self, code: str, new: str, address: str) -> None:
        """All sessions end. Raises: `reset_invalid`, `rate_limited`, `busy`."""
        limits = self._guesses.of_code("reset", address)
        await self._guesses.check(limits)
        hashed = code_hash(code)
        if await self._accounts.get_reset(hashed, now_ms=self._clock()) is None:
            await self._guesses.count(limits)
            raise HyperSendError("reset_invalid")
        done = await self._accounts.use_reset(hashed, await self._passwords.hash(new), now_ms=self._clock())
        if done is None:
            raise HyperSendError("reset_invalid")
        self._ended(*done)
