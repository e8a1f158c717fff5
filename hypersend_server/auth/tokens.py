"""Access and refresh tokens: making them, and telling ours from others.

Access token: JWT (RFC 7519), HS256, header `kid`, claims iss (server_id), aud, sub (user id), sid (session id),
gen (the pair it belongs to), iat, exp. Refresh token: `hsr1.<session id>.<generation>.<tag>`, the tag an HMAC of
session, salt and generation; so the pair after a given one is always the same and nothing has to be stored for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import SessionRecord
from hypersend_server.signer import b64, derive_key


@contextlib.contextmanager
def _absent(package: str) -> Iterator[None]:
    """Within, importing the package fails as if it were not installed, unless it has been imported already."""
    modules: dict[str, Any] = sys.modules
    if package in modules:
        yield
        return
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]


# Ours are signed by HMAC alone. Where the client's packages are installed beside the server, PyJWT would load
# `cryptography` for signatures that nobody makes, which is a sixth of what an idle server holds.
with _absent("cryptography"):
    import jwt

ACCESS_TTL_S = 15 * 60
AUDIENCE = "hypersend"
MAX_TOKEN_LENGTH = 4096
_MAX_REMEMBERED = 8192
_PREFIX = "hsr1"


class AccessClaims(NamedTuple):
    user_id: str
    session_id: str
    generation: int
    expires_at: int


class _Payload(msgspec.Struct):
    """The claims that PyJWT leaves to us."""

    sub: str
    sid: str
    gen: int
    exp: int


class AccessTokens:
    """Verified tokens are remembered until they expire, since every request brings one."""

    def __init__(self, secret_key: str, server_id: str, clock: Clock) -> None:
        self._key = derive_key(secret_key, "access-token")
        self._kid = b64(hashlib.sha256(self._key).digest()[:6])
        self._server_id = server_id
        self._clock = clock
        self._verified: dict[str, AccessClaims] = {}

    def issue(self, session: SessionRecord, issued_at_ms: int) -> str:
        issued_at = issued_at_ms // 1000
        claims = {
            "iss": self._server_id,
            "aud": AUDIENCE,
            "sub": session.user_id,
            "sid": session.id,
            "gen": session.generation,
            "iat": issued_at,
            "exp": issued_at + ACCESS_TTL_S,
        }
        return jwt.encode(claims, self._key, algorithm="HS256", headers={"kid": self._kid})

    def verify(self, token: str) -> AccessClaims:
        """Raises: `token_expired`, `token_invalid`."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            if len(self._verified) >= _MAX_REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = claims
        if self._clock() >= claims.expires_at:
            self._verified.pop(token, None)
            raise HyperSendError("token_expired")
        return claims

    def _decode(self, token: str) -> AccessClaims:
        if len(token) > MAX_TOKEN_LENGTH:
            raise HyperSendError("token_invalid")
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=self._server_id,
                # Times are judged by `verify`, on the server's own clock.
                options={"require": ["iss", "aud", "sub", "exp", "iat"], "verify_exp": False, "verify_iat": False},
            )
            claims = msgspec.convert(decoded["payload"], _Payload)
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, RecursionError):
            raise HyperSendError("token_invalid") from None
        if decoded["header"].get("kid") != self._kid:
            raise HyperSendError("token_invalid")
        return AccessClaims(claims.sub, claims.sid, claims.gen, claims.exp * 1000)


class RefreshTokens:
    def __init__(self, secret_key: str) -> None:
        self._key = derive_key(secret_key, "refresh")

    def issue(self, session: SessionRecord) -> str:
        """The one of the session's newest pair."""
        return f"{_PREFIX}.{session.id}.{session.generation}.{self._tag(session, session.generation)}"

    def read(self, token: str) -> tuple[str, int]:
        """(session id, generation) that the token claims. Raises: `token_invalid`."""
        parts = token.split(".")
        if (
            len(parts) != 4
            or parts[0] != _PREFIX
            or not parts[2].isascii()
            or not parts[2].isdigit()
            or len(parts[2]) > 9
            or parts[2].startswith("0")
        ):
            raise HyperSendError("token_invalid")
        return parts[1], int(parts[2])

    def check(self, token: str, session: SessionRecord | None) -> None:
        """Raises: `token_invalid` where we did not make the token for this session."""
        _, generation = self.read(token)
        tag = token.rsplit(".", 1)[1].encode("utf-8", "surrogatepass")
        if session is None or not hmac.compare_digest(self._tag(session, generation).encode(), tag):
            raise HyperSendError("token_invalid")

    def _tag(self, session: SessionRecord, generation: int) -> str:
        text = f"{session.id}:{generation}:".encode() + session.salt
        return b64(hmac.digest(self._key, text, "sha256"))
