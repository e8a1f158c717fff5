"""What an operator does for accounts from the command line, and at start: making people, resets, the first invite."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hypersend_server.auth.guesses import FORGET_AFTER_MS, KNOWN_FOR_MS
from hypersend_server.auth.passwords import Passwords
from hypersend_server.auth.types import Register
from hypersend_server.clock import Clock, Entropy
from hypersend_server.codes import code_hash, new_code
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, NewUser, UserRecord
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.names import clean_name, email_key, name_key, username_key

RESET_TTL_MS = 24 * 3_600_000
KEEP_ENDED_SESSIONS_MS = 30 * 24 * 3_600_000


class AccountOperator:
    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        entropy: Entropy,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._clock = clock
        self._new_id = new_id
        self._entropy = entropy

    async def add_user(
        self,
        email: str,
        username: str,
        password: str,
        *,
        display_name: str | None = None,
        is_admin: bool = False,
    ) -> UserRecord:
        """Whatever REGISTRATION says. Raises: `validation_failed`, `email_taken`, `username_taken`."""
        request = as_registration(email=email, username=username, password=password, display_name=display_name)
        user = new_user(self._new_id(), request, await self._passwords.hash(password), is_admin=is_admin)
        return await self._accounts.create_user(
            user, now_ms=self._clock(), audit=self._audit("user.add", user.id, "administrator" if is_admin else "")
        )

    async def create_reset(self, email: str) -> str:
        """A code, good once and for a day, with which this person sets a new password. Raises: `not_found`."""
        found = await self._accounts.credentials(email_key(email))
        if found is None:
            raise HyperSendError("not_found", "Nobody has this e-mail.")
        code = new_code(self._entropy)
        await self._accounts.add_reset(
            found.user.id,
            code_hash(code),
            expires_at=self._clock() + RESET_TTL_MS,
            audit=self._audit("user.reset", found.user.id),
        )
        return code

    async def ensure_first_invite(self) -> str | None:
        """While there is no administrator: a new code that makes one, once; earlier ones are void. Else None."""
        code = new_code(self._entropy)
        made = await self._accounts.renew_first_invite(code_hash(code), now_ms=self._clock())
        return code if made else None

    async def tidy(self) -> None:
        """Forget old failures, codes and ended sessions; to be repeated now and then."""
        now = self._clock()
        await self._accounts.tidy(
            guesses_before=now - FORGET_AFTER_MS,
            known_before=now - KNOWN_FOR_MS,
            sessions_before=now - KEEP_ENDED_SESSIONS_MS,
            now_ms=now,
        )

    def _audit(self, action: str, target: str, detail: str = "") -> AuditEntry:
        return AuditEntry(
            id=self._new_id(), at=self._clock(), actor_id=None, action=action, target=target, detail=detail
        )


_WANTED = {
    "email": "must be an address such as asha@example.org",
    "username": "must be 3 to 32 of a-z, 0-9, _ and .",
    "password": "must have 10 to 256 characters",
    "display_name": "must have 1 to 60 characters, some of them visible",
}


def as_registration(**fields: str | None) -> Register:
    """Held to the limits of the API. Raises: `validation_failed` with what the field must be."""
    try:
        return msgspec.convert(fields, Register)
    except msgspec.ValidationError as error:
        name = str(error).partition("`$.")[2].rstrip("`")
        wanted = _WANTED.get(name, "is not valid")
        raise HyperSendError(
            "validation_failed", f"{name} {wanted}", errors=[{"field": name, "problem": wanted}]
        ) from None


def new_user(user_id: str, request: Register, password_hash: str, *, is_admin: bool = False) -> NewUser:
    username = username_key(request.username)
    display_name = clean_name(request.display_name or username)
    return NewUser(
        id=user_id,
        email=request.email,
        email_key=email_key(request.email),
        username=username,
        display_name=display_name,
        name_key=name_key(display_name),
        password_hash=password_hash,
        is_admin=is_admin,
    )
