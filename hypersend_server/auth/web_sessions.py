"""Sessions that a browser keeps by a cookie instead of a token store: what `web_client.sign_in` needs of them."""

from __future__ import annotations

import hmac

from hypersend_server.auth.tokens import ACCESS_TTL_S, AccessTokens
from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, SessionRecord


class WebSessions:
    """Reads the database each time: it is asked once a connection of a page and once a quarter of an hour after."""

    def __init__(self, accounts: Accounts, tokens: AccessTokens, clock: Clock) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._clock = clock

    async def keep(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        return await self._accounts.keep_web_session(session_id, user_id, secret_hash)

    async def is_kept(self, session_id: str) -> bool:
        return await self._find(session_id) is not None

    async def recognise(self, session_id: str, secret_hash: bytes) -> bool:
        session = await self._find(session_id)
        known = b"" if session is None or session.web_secret is None else session.web_secret
        return hmac.compare_digest(known, secret_hash)

    async def access(self, session_id: str) -> tuple[str, int]:
        session = await self._find(session_id)
        if session is None:
            raise HyperSendError("session_ended")
        return self._tokens.issue(session, self._clock()), ACCESS_TTL_S

    async def _find(self, session_id: str) -> SessionRecord | None:
        live = await self._accounts.live_session(session_id)
        return None if live is None or live.session.kind != "web" else live.session
