"""`GET /api/v1/p2p/sender/{id}` and `…/receiver/{id}`: who may open an end of a transfer, and where it is served.

Where several processes run, the first end's process joins the transfer and the other end, if it comes to another
process, is passed on there, frame by frame. Where that process has no INSTANCE_URL, or is gone, the later end's takes
its place; the earlier end is let go then, connects again, and meets the other one by the balancer's hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp import WSMsgType, hdrs, web

from hypersend_server.errors import HyperSendError
from hypersend_server.http import Caller
from hypersend_server.limits import NoLimits
from hypersend_server.metadata.transfers import TransferRecord
from hypersend_server.origins import Origins
from hypersend_server.p2p import wire
from hypersend_server.p2p.accept import accept
from hypersend_server.p2p.line import Buffers, Line
from hypersend_server.p2p.meeting import SILENCE_S
from hypersend_server.p2p.relay import PING_S, Relay
from hypersend_server.p2p.service import Limit, TransferService
from hypersend_server.p2p.wire import ROLES, Role
from hypersend_server.realtime.unknown import UnknownSockets
from hypersend_server.signer import Signer

PATH = "/api/v1/p2p/{role}/{id}"
PASS_HEADER = "X-HyperSend-Relay"  # noqa: S105
PASS_S = 60
AUTH_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
CONNECT_S = 3.0  # to another process: one that has not answered by then is gone
# Of one end. Each tells all devices of both people, and writes twice; ours wait half a second and more in between.
OPENINGS_PER_S, OPENINGS_BURST = 2, 20
log = logging.getLogger(__name__)


class Authenticator(Protocol):
    async def authenticate_token(self, token: str) -> Caller:
        """Raises: HyperSendError `token_expired`, `session_ended`, and others that mean: not allowed."""


class Pass(msgspec.Struct, frozen=True, array_like=True):
    """What one process tells another of an end that it has let in. until: Unix seconds."""

    transfer_id: str
    role: str
    session_id: str
    until: int


class RelayEdge:
    """signer: makes and checks the passes between processes. clock: Unix milliseconds. origins: web origins whose
    pages may open an end, beside the server's own. unknown: counts those that have not signed in. limit: how often an
    end may be opened."""

    def __init__(
        self, service: TransferService, relay: Relay, authenticator: Authenticator, signer: Signer,
        clock: Callable[[], int], *, origins: Collection[str] = (), unknown: UnknownSockets | None = None,
        limit: Limit | None = None, auth_timeout_s: float = AUTH_TIMEOUT_S,
    ) -> None:
        self._service = service
        self._relay = relay
        self._authenticator = authenticator
        self._signer = signer
        self._clock = clock
        self._origins = Origins(origins)
        self._unknown = unknown or UnknownSockets()
        self._limit = limit or NoLimits()
        self._auth_timeout_s = auth_timeout_s
        self._http: aiohttp.ClientSession | None = None
        self._buffers = Buffers()
        self._stopping = asyncio.Event()

    def add_to(self, app: web.Application) -> None:
        for role in ROLES:
            path = PATH.replace("{role}", role).replace("{id}", "{transfer_id:[0-9a-z]{26}}")
            app.router.add_get(path, self._handler(role), allow_head=False)

    def _handler(self, role: Role) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, role)

        return handle

    async def _serve(self, request: web.Request, role: Role) -> web.StreamResponse:
        self._origins.require_own(request)
        transfer_id = request.match_info["transfer_id"]
        token = _bearer(request)
        passed = self._passed(request, transfer_id, role)
        transfer = None
        session_id = passed or ""
        if token is not None and passed is None:
            session_id = (await self._authenticator.authenticate_token(token)).session_id
        if session_id:  # who it is we know before the socket opens, so a stranger gets a plain answer
            transfer = await self._service.for_end(transfer_id, role, session_id)
            if passed is None:  # else it was counted where it came from
                self._count_opening(transfer_id, role)
        with contextlib.ExitStack() as unknown:
            if transfer is None:
                unknown.enter_context(self._unknown.counted(request))
            response, line = await accept(request, self._buffers, wire.MAX_BINARY_BYTES + 1)
            try:
                if transfer is None:
                    session_id = await self._first_frame(line, role)
                    transfer = await self._service.for_end(transfer_id, role, session_id)
                    self._count_opening(transfer_id, role)
                    unknown.close()
                await self._meet(line, transfer, role, session_id, is_passed=passed is not None)
            except wire.BadFrame as error:
                await line.close(code=wire.BAD_FRAME, message=str(error).encode())
            except HyperSendError as error:
                await line.close(code=_close_code(error), message=error.code.encode())
            except Exception:
                # Not left to the middleware: its answer would stand in the middle of a WebSocket.
                log.exception("an end of transfer %s failed", transfer_id)
                await line.close(code=1011, message=b"internal")
            finally:
                if request.transport is not None:  # a peer that reads nothing would keep what waits for it for long
                    asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, request.transport.abort)
        return response

    def _count_opening(self, transfer_id: str, role: Role) -> None:
        """Raises: `rate_limited`."""
        if (wait_s := self._limit.take(f"{role} {transfer_id}")) is not None:
            raise HyperSendError("rate_limited", retry_after_s=wait_s)

    async def _first_frame(self, line: Line, role: Role) -> str:
        """The session of the token in the first frame. Raises: wire.BadFrame, HyperSendError."""
        try:
            message = await line.receive(timeout=self._auth_timeout_s)
        except TimeoutError:
            raise HyperSendError("unauthenticated", "No auth frame came.") from None
        if message.type is not WSMsgType.TEXT:
            raise wire.BadFrame("the first frame must be auth")
        frame = wire.parse(message.data, role)
        if not isinstance(frame, wire.Auth):
            raise HyperSendError("unauthenticated", "The first frame must be auth.")
        return (await self._authenticator.authenticate_token(frame.token)).session_id

    async def _meet(
        self, line: Line, transfer: TransferRecord, role: Role, session_id: str, *, is_passed: bool
    ) -> None:
        allowed = Pass(transfer.id, role, session_id, self._clock() // 1000 + PASS_S)
        place = await self._relay.place(transfer.id)
        if place != self._relay.name and not is_passed:
            # Another name than an INSTANCE_URL cannot be reached.
            if place.startswith("http") and await self._pass_on(line, place, allowed):
                return
            place = await self._relay.place(transfer.id, instead_of=place)
        if place == self._relay.name:
            joined = wire.joined(role, self._service.snapshot(transfer))
            await self._relay.join(transfer, role, line, session_id, joined)
        else:
            raise HyperSendError("busy", "The transfer moved on to another process.")

    # Between processes

    def _passed(self, request: web.Request, transfer_id: str, role: Role) -> str | None:
        """The session that another process let in, or None where none did."""
        text = request.headers.get(PASS_HEADER)
        if text is None:
            return None
        try:
            found = self._signer.unseal(text, Pass)
        except ValueError:
            raise HyperSendError("unauthenticated") from None
        if (found.transfer_id, found.role) != (transfer_id, role):
            raise HyperSendError("unauthenticated")
        if found.until < self._clock() // 1000:
            raise HyperSendError("token_expired")
        return found.session_id

    async def _pass_on(self, line: Line, place: str, allowed: Pass) -> bool:
        """Serve this end from the process at `place`, an INSTANCE_URL; False where nothing can be reached there.

        That it is gone need not be true: what takes its place over is noticed by it (`Relay.place`).
        """
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S))  # its name is looked up in this time, too
        url = place.rstrip("/") + PATH.format(role=allowed.role, id=allowed.transfer_id)
        try:
            async with asyncio.timeout(SILENCE_S):
                there = await self._http.ws_connect(
                    url, headers={PASS_HEADER: self._signer.seal(allowed)}, compress=0,
                    max_msg_size=wire.MAX_BINARY_BYTES + 1, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S))
            async with there:
                await _join(line, there, self._stopping)
                code = there.close_code if there.close_code not in (None, 1005, 1006) else wire.STOPPING
                await line.close(code=code or wire.STOPPING)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            log.warning("the process at %s is gone: %s", place, error)
            return False
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("the process at %s cannot be reached: %s", place, error)
            await line.close(code=wire.STOPPING, message=b"the other process cannot be reached")
        return True

    def stop(self) -> None:
        """The pipes to other processes end, and their devices connect again."""
        self._stopping.set()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


async def _join(one: Line, other: aiohttp.ClientWebSocketResponse, stopping: asyncio.Event) -> None:
    """Pass frames both ways until this process stops, or either side ends, or says or takes nothing for a minute: the
    pings of the process over there are answered here and tell nothing of the device."""
    work: list[Coroutine[Any, Any, object]] = [_copy(one, other), _copy(other, one), _ping(one), stopping.wait()]
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
        while True:
            message = await source.receive(timeout=SILENCE_S)
            async with asyncio.timeout(SILENCE_S):
                if message.type is WSMsgType.BINARY:
                    await target.send_bytes(message.data)
                elif message.type is WSMsgType.TEXT:
                    await target.send_str(message.data)
                else:
                    return


async def _ping(line: Line) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        while True:
            await asyncio.sleep(PING_S)
            await line.ping()


def _bearer(request: web.Request) -> str | None:
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise HyperSendError("unauthenticated", "The Authorization header is not a Bearer token.")
    return token.strip()


def _close_code(error: HyperSendError) -> int:
    match error.code:
        case "token_expired":
            return wire.TOKEN_EXPIRED
        case "session_ended":
            return wire.SESSION_ENDED
        case "transfer_closed":
            return wire.OVER
        case "busy" | "rate_limited":
            return wire.STOPPING
    return 1011 if error.kind.status >= 500 else wire.NOT_ALLOWED
