"""Who asks: an access token, or where a route takes it an upload ticket, as a `Caller`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from hypersend_server.auth.live_sessions import LiveSessions
from hypersend_server.auth.tokens import AccessTokens
from hypersend_server.client_address import client_address
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Caller
from hypersend_server.middleware import SESSION_ID
from hypersend_server.settings import Network

OpenUploadTicket = Callable[[str], tuple[str, str, str, str | None] | None]
"""(user id, session id, ticket id, chat id or None) of a genuine upload ticket in its time; None for anything else."""


class TokenAuthenticator:
    """`http.Authenticator`. On the way of every request: two look-ups in memory where the token was seen before."""

    def __init__(
        self,
        tokens: AccessTokens,
        sessions: LiveSessions,
        trusted_proxies: Sequence[Network],
        open_upload_ticket: OpenUploadTicket | None = None,
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._trusted = trusted_proxies
        self._open_upload_ticket = open_upload_ticket

    async def authenticate(self, request: web.Request, *, accept_upload_ticket: bool) -> Caller:
        """Raises: `unauthenticated`, `token_expired`, `token_invalid`, `session_ended`."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise HyperSendError("unauthenticated")
        caller = self._holder_of(token) if accept_upload_ticket else None
        if caller is not None:
            await self._sessions.require(caller.session_id, caller.user_id)
        else:
            caller = await self._caller(token, lambda: client_address(request, self._trusted))
        request[SESSION_ID] = caller.session_id
        return caller

    async def authenticate_token(self, token: str) -> Caller:
        """An access token that came another way than by header. Raises: as `authenticate`."""
        return await self._caller(token, lambda: "")

    def _holder_of(self, token: str) -> Caller | None:
        opened = None if self._open_upload_ticket is None else self._open_upload_ticket(token)
        if opened is None:
            return None
        user_id, session_id, ticket_id, chat_id = opened
        return Caller(user_id, session_id, ticket_id=ticket_id, ticket_chat_id=chat_id)

    async def _caller(self, token: str, address: Callable[[], str]) -> Caller:
        claims = self._tokens.verify(token)
        entry = await self._sessions.require(claims.session_id, claims.user_id)
        self._sessions.note(entry, claims.session_id, claims.generation, address)
        return Caller(claims.user_id, claims.session_id, entry.is_admin)
