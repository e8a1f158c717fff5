"""The HTTP edge in one table: a `Route` says all about a call, and `register` turns it into an aiohttp handler.

The same table makes the OpenAPI document, so what is served and what is documented cannot differ.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import msgspec
from aiohttp import web

from hypersend_server.errors import HyperSendError, from_msgspec, validation_failed

MAX_JSON_BYTES = 1024 * 1024
MAX_UNKNOWN_JSON_BYTES = 128 * 1024  # of somebody who has not said who it is
BODY_TIMEOUT_S = 30
CLOSE_S = 3.0  # calls that are under way when the server stops get this long
MOST_LEFT = 32  # calls of one person whose client did not wait for the answer

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ticket_id: set where an upload ticket speaks for its maker instead of an access token."""

    user_id: str
    session_id: str
    is_admin: bool = False
    ticket_id: str | None = None
    ticket_chat_id: str | None = None


class Authenticator(Protocol):
    async def authenticate(self, request: web.Request, *, accept_upload_ticket: bool) -> Caller:
        """Raises: HyperSendError `unauthenticated`, `token_expired`, `token_invalid`, `session_ended`."""


@dataclass(slots=True)
class Call:
    """One request, parsed. `caller` may be asked for only where the route needs a session."""

    request: web.Request
    body: Any = None
    query: Any = None
    _caller: Caller | None = None

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "a route without auth has no caller"
        return self._caller

    def path(self, name: str) -> str:
        """A part of the path, percent-decoded."""
        return self.request.match_info[name]


Handler = Callable[[Call], Coroutine[Any, Any, web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call of the API.

    body: the msgspec type of a JSON body. accepts: media types of a body that the handler reads itself.
    query: the msgspec type of the query string; None: no key is known. Where `open_query` is set, others pass.
    replies: status → type of the JSON, or None where there is no body, or a media type such as 'image/jpeg'.
    errors: codes that this call in particular can raise. headers: request headers it reads, with a line each.
    auth: 'session' an access token, 'admin' an administrator's, 'upload' either that or an upload ticket,
    'ticket' either that or a ticket in the query; there the handler itself asks for one of both.
    continues: the handler itself answers `Expect: 100-continue`, once it wants the body.
    changes: done to the end once begun, though the client leaves. None: unless it is GET or HEAD.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: Any = None
    body_optional: bool = False
    accepts: Sequence[str] = ()
    query: type[msgspec.Struct] | None = None
    open_query: bool = False
    replies: Mapping[int, Any] = field(default_factory=dict)
    errors: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: Literal["none", "session", "admin", "upload", "ticket"] = "session"
    continues: bool = False
    changes: bool | None = None

    @property
    def goes_on_alone(self) -> bool:
        """Whether it is done to the end though the client leaves."""
        return self.method not in ("GET", "HEAD") if self.changes is None else self.changes


def json_reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=_encode(data), status=status, content_type="application/json", headers=headers)


def no_content() -> web.Response:
    return web.Response(status=204)


class UnderWay:
    """Calls that change something. aiohttp cancels a handler whose client leaves; between the commit and the events
    that tell of it, that would leave a change of which nobody hears."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left: Counter[str] = Counter()  # by person: those whose client has left

    async def to_the_end(self, handler: Handler, call: Call) -> web.StreamResponse:
        """Raises: what `handler` raises; `busy` where too much of this person's is under way that they left;
        CancelledError at once, and then it goes on by itself."""
        user_id = "" if call._caller is None else call._caller.user_id
        if user_id and self._left[user_id] >= MOST_LEFT:
            raise HyperSendError("busy", "Too many calls are under way that nobody waits for.", retry_after_s=2)
        task = asyncio.get_running_loop().create_task(handler(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._left[user_id] += 1
            task.add_done_callback(partial(self._ended, user_id))
            raise

    def _ended(self, user_id: str, task: asyncio.Task[Any]) -> None:
        """Log what would else be the answer `internal`."""
        self._left[user_id] -= 1
        if not self._left[user_id]:
            del self._left[user_id]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (HyperSendError, web.HTTPException, ConnectionError)):
            log.error("a call whose client had left failed", exc_info=error)

    async def close(self) -> None:
        """Wait for those whose clients have left, and end them where they take too long."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def register(app: web.Application, routes: Iterable[Route], authenticator: Authenticator) -> UnderWay:
    """Add the routes to `app`. GET routes answer HEAD too, except where HEAD has a route of its own.

    Returns: the calls to be closed before what they use.
    """
    table = list(routes)
    under_way = UnderWay()
    heads = {route.path for route in table if route.method == "HEAD"}
    for route in table:
        handler = _endpoint(route, authenticator, under_way)
        # Only what can be an id matches: else `/files/init` would also be a file called init.
        path = re.sub(r"{(\w*id)}", r"{\1:[0-9a-z]{26}}", route.path).replace("{version}", "{version:[0-9][^/]*}")
        if route.method == "GET":
            app.router.add_get(path, handler, allow_head=route.path not in heads)
        else:
            app.router.add_route(
                route.method, path, handler, expect_handler=_leave_to_handler if route.continues else None)
    return under_way


async def _leave_to_handler(request: web.Request) -> None:
    return


def _endpoint(
    route: Route, authenticator: Authenticator, under_way: UnderWay
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    decoder = None if route.body is None else msgspec.json.Decoder(route.body)
    # Once: asking msgspec evaluates every annotation anew. {key in the query: field}
    limit = MAX_UNKNOWN_JSON_BYTES if route.auth == "none" else MAX_JSON_BYTES
    keys = {f.encode_name: f.name for f in msgspec.structs.fields(route.query)} if route.query else {}

    async def endpoint(request: web.Request) -> web.StreamResponse:
        call = Call(request)
        if route.auth not in ("none", "ticket"):
            caller = await authenticator.authenticate(request, accept_upload_ticket=route.auth == "upload")
            if route.auth == "admin" and not caller.is_admin:
                raise HyperSendError("not_allowed", "Only administrators may do this.")
            call._caller = caller
        call.query = _parse_query(route, keys, request)
        if decoder is not None:
            if request.can_read_body or not route.body_optional:
                call.body = await _read_json(request, decoder, limit)
            else:
                call.body = decoder.decode(b"{}")
        return await (under_way.to_the_end(route.handler, call) if route.goes_on_alone else route.handler(call))

    return endpoint


def _parse_query(route: Route, keys: Mapping[str, str], request: web.Request) -> Any:
    query = request.query
    if route.open_query:
        values = {name: value for name, value in query.items() if name in keys}
    else:
        values = dict(query)
        if len(values) != len(query):
            repeated = sorted({name for name in query if len(query.getall(name)) > 1})
            raise validation_failed(*((name, "is given more than once") for name in repeated))
        if route.query is None and values:
            raise validation_failed(*((name, "is not known here") for name in sorted(values)))
    if route.query is None:
        return None
    try:
        parsed = msgspec.convert(values, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None
    # msgspec reads the text `null` as None; a query key is there or not.
    nulls = [name for name in values if getattr(parsed, keys[name]) is None]
    if nulls:
        raise validation_failed(*((name, "cannot be null") for name in nulls))
    return parsed


async def read_body(request: web.Request, limit: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """A small body, whole. Raises: `body_too_large` past `limit` bytes, `request_timeout`."""
    if request.content_length is not None and request.content_length > limit:
        raise HyperSendError("body_too_large", f"The body may have at most {limit} bytes.")
    parts = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_any():
                parts += part
                if len(parts) > limit:
                    raise HyperSendError("body_too_large", f"The body may have at most {limit} bytes.")
    except TimeoutError:
        raise HyperSendError("request_timeout") from None
    return bytes(parts)


async def _read_json(request: web.Request, decoder: msgspec.json.Decoder[Any], limit: int) -> Any:
    if request.content_type != "application/json":
        raise HyperSendError("unsupported_media_type", "Send the body as application/json.")
    return decode_json(await read_body(request, limit, BODY_TIMEOUT_S), decoder)


def decode_json(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Raises: `validation_failed` (well-formed, but not this type), `malformed_body`."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HyperSendError("malformed_body", f"The body is not valid JSON: {error}") from None
