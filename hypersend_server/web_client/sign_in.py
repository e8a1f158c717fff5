"""How a browser stays signed in to the web app, out of reach of scripts and of the process that runs the screens.

1. The page is served with a cookie `…_before`: random, HttpOnly, SameSite=Strict. It says only "the same browser".
2. Somebody types their password. The screens sign in over the API and get a session as any device does. With its
   access token they ask `POST /web/ticket` for a ticket, naming the browser (they got its hash with the handshake),
   and for a renewal, which is worth something once the session is kept.
3. The browser opens `/web/in?ticket=…` in a frame. The ticket is good for a minute, in that browser: the session
   becomes one of kind `web`, its refresh tokens are void, and the cookie `…_session` is set: HttpOnly,
   SameSite=Strict, its secret never rotated, for two tabs would race. Asked again it sets the same one, since a frame
   that is loaded again drops the first answer with its cookie. An attacker cannot sign a victim in as themselves:
   their ticket names another browser.
4. At each later `/ws` handshake the server reads that cookie and tells the screens an access token and a renewal.
   The cookie itself stops here: the screens hold tokens of 15 minutes, and renewals of a day, in memory alone.
5. `POST /web/token` with a renewal gives the next access token and renewal, while the session lives. Renewals are
   given for kept sessions alone, and tickets for others alone: an access token that leaked is no way to last.
6. Signing out is the API's logout. The next handshake finds the session ended and takes the cookie away.

Tickets and renewals are signed and kept nowhere, so it does not matter which server process sees them next.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from http.cookies import SimpleCookie
from typing import Annotated, NamedTuple, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta

from hypersend_server.clock import Clock, Entropy
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Call, Route, json_reply
from hypersend_server.origins import Origins
from hypersend_server.resources import Body, Query, Resource
from hypersend_server.signer import Signer, b64, derive_key
from hypersend_server.web_client.assets import ISOLATION

TICKET_MS = 60_000
RENEWAL_MS = 24 * 3600 * 1000
COOKIE_S = 400 * 24 * 3600  # as long as browsers keep one; the session itself is what ends

BROWSER_HEADER = "X-HyperSend-Browser"
TOKEN_HEADER = "X-HyperSend-Access-Token"  # noqa: S105 - the header's name
RENEWAL_HEADER = "X-HyperSend-Renewal"

Sealed = Annotated[str, Meta(min_length=1, max_length=1024)]


class WebSessions(Protocol):
    """What this needs of the sessions."""

    async def keep(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        """Make a live session one of kind `web`, known by this SHA-256; its refresh tokens are void from now on.

        False where it has ended, or is one already.
        """

    async def is_kept(self, session_id: str) -> bool:
        """Whether this is a live session of kind `web`."""

    async def recognise(self, session_id: str, secret_hash: bytes) -> bool:
        """Whether this is a live session of kind `web` with that secret; compared in constant time."""

    async def access(self, session_id: str) -> tuple[str, int]:
        """An access token for a live session of kind `web`, and the seconds that it lives. Raises: `session_ended`."""


class WebTicket(msgspec.Struct, frozen=True, array_like=True):
    session_id: str
    user_id: str
    browser: str
    expires_at: int


class Renewal(msgspec.Struct, frozen=True, array_like=True):
    session_id: str
    expires_at: int


class TicketBody(Body, frozen=True):
    """browser: as the handshake named it."""

    browser: Annotated[str, Meta(min_length=1, max_length=64)]


class TokenBody(Body, frozen=True):
    renewal: Sealed


class InQuery(Query, frozen=True):
    ticket: Sealed


class WebTicketReply(Resource):
    url: str
    renewal: str


class WebToken(Resource):
    access_token: str
    expires_in: int
    renewal: str


class Handshake(NamedTuple):
    """told: headers for the screens. cookies: Set-Cookie values for the browser."""

    told: dict[str, str]
    cookies: list[str]


class WebSignIn:
    """is_https: whether the browser reached us over TLS; then the cookies are Secure. origins: whose pages may ask,
    besides those of the server's own host."""

    def __init__(
        self, sessions: WebSessions, secret_key: str, server_id: str, *, is_https: Callable[[web.Request], bool],
        clock: Clock, entropy: Entropy, origins: Collection[str] = (),
    ) -> None:
        self._sessions = sessions
        self._tickets = Signer(secret_key, "web ticket")
        self._renewals = Signer(secret_key, "web renewal")
        self._secret_key = derive_key(secret_key, "web session")
        self._is_https = is_https
        self._clock = clock
        self._entropy = entropy
        self._origins = Origins(origins)
        # Cookies know no port: two servers on one machine must not take each other's away.
        suffix = hashlib.sha256(server_id.encode()).hexdigest()[:8]
        self._before = f"hypersend_before_{suffix}"
        self._session = f"hypersend_session_{suffix}"

    def routes(self) -> list[Route]:
        return [
            Route(method="POST", path="/web/ticket", handler=self.ticket, tag="web", body=TicketBody,
                  summary="For the web app's screens: a link that keeps this session in its browser.",
                  replies={200: WebTicketReply}, errors=("not_allowed",)),
            Route(method="POST", path="/web/token", handler=self.token, tag="web", body=TokenBody, auth="none",
                  summary="For the web app's screens: the next access token.", replies={200: WebToken},
                  errors=("token_invalid", "session_ended", "not_allowed")),
            Route(method="GET", path="/web/in", handler=self.enter, tag="web", query=InQuery, auth="none",
                  summary="Keeps a session in the browser that opens this in a frame.", replies={204: None},
                  errors=("ticket_invalid",)),
        ]

    def cookies_of_page(self, request: web.Request) -> list[str]:
        """What the page itself sets."""
        if self._before in request.cookies:
            return []
        return [self._cookie(request, self._before, b64(self._entropy(16)), None)]

    async def handshake(self, request: web.Request) -> Handshake:
        """What the screens are told of the browser that connects."""
        told: dict[str, str] = {}
        before = request.cookies.get(self._before)
        if before:
            told[BROWSER_HEADER] = _browser(before)
        kept = request.cookies.get(self._session)
        if not kept:
            return Handshake(told, [])
        session_id, _, secret = kept.partition(".")
        try:
            if await self._sessions.recognise(session_id, _hash(secret)):
                token, _ = await self._sessions.access(session_id)
                told |= {TOKEN_HEADER: token, RENEWAL_HEADER: self._renewal(session_id)}
                return Handshake(told, [])
        except HyperSendError as error:
            if error.code != "session_ended":
                raise
        return Handshake(told, [self._cookie(request, self._session, "", 0)])

    async def ticket(self, call: Call) -> web.StreamResponse:
        self._origins.require_own(call.request)
        caller = call.caller
        if await self._sessions.is_kept(caller.session_id):
            raise HyperSendError("not_allowed", "A browser keeps this session already.")
        sealed = self._tickets.seal(
            WebTicket(caller.session_id, caller.user_id, call.body.browser, self._clock() + TICKET_MS))
        return json_reply(WebTicketReply(url=f"/web/in?ticket={sealed}", renewal=self._renewal(caller.session_id)))

    async def token(self, call: Call) -> web.StreamResponse:
        self._origins.require_own(call.request)
        try:
            renewal = self._renewals.unseal(call.body.renewal, Renewal)
        except ValueError:
            raise HyperSendError("token_invalid") from None
        if renewal.expires_at <= self._clock():
            raise HyperSendError("session_ended")
        token, expires_in = await self._sessions.access(renewal.session_id)
        return json_reply(WebToken(
            access_token=token, expires_in=expires_in, renewal=self._renewal(renewal.session_id)))

    async def enter(self, call: Call) -> web.StreamResponse:
        """204: the frame stays as it is. What a frame is, browsers do not tell over plain http."""
        request = call.request
        try:
            ticket = self._tickets.unseal(call.query.ticket, WebTicket)
        except ValueError:
            raise HyperSendError("ticket_invalid") from None
        before = request.cookies.get(self._before, "")
        response = web.Response(status=204, headers={**ISOLATION, "Cache-Control": "no-store"})
        # A frame that is moved about in the page is loaded again.
        session_id, _, secret = request.cookies.get(self._session, "").partition(".")
        if session_id == ticket.session_id and await self._sessions.recognise(session_id, _hash(secret)):
            return response
        if ticket.expires_at <= self._clock() or not hmac.compare_digest(_browser(before), ticket.browser):
            raise HyperSendError("ticket_invalid")
        secret = b64(hmac.digest(self._secret_key, call.query.ticket.encode(), "sha256"))
        if not await self._sessions.keep(ticket.session_id, ticket.user_id, _hash(secret)) \
                and not await self._sessions.recognise(ticket.session_id, _hash(secret)):
            raise HyperSendError("ticket_invalid")
        # The cookie from before stays: the page knows this browser by it, and may sign somebody else in later.
        kept = self._cookie(request, self._session, f"{ticket.session_id}.{secret}", COOKIE_S)
        response.headers.add("Set-Cookie", kept)
        return response

    def _renewal(self, session_id: str) -> str:
        return self._renewals.seal(Renewal(session_id, self._clock() + RENEWAL_MS))

    def _cookie(self, request: web.Request, name: str, value: str, max_age_s: int | None) -> str:
        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = value
        morsel = cookie[name]
        morsel["path"], morsel["httponly"], morsel["samesite"] = "/", True, "Strict"
        if max_age_s is not None:
            morsel["max-age"] = max_age_s
        if self._is_https(request):
            morsel["secure"] = True
        return morsel.OutputString()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _browser(before: str) -> str:
    """What the screens may know of the cookie."""
    return b64(_hash("before:" + before)[:16])
