"""`GET /api/v1/ws`: who may open a socket, signing in, and the loop that reads its frames.

Frames are taken in order, and their commands are started in that order without waiting for each other, so a
client may have many messages in flight. Commands that must keep their order (sends) reach the writer's queue
before they first wait for anything. Acks come as commands finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from aiohttp import hdrs, web

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.http import Caller
from hypersend_server.origins import Origins
from hypersend_server.realtime import wire
from hypersend_server.realtime.connection import Connection, Limits
from hypersend_server.realtime.hub import Hub
from hypersend_server.realtime.presence import PresenceBoard
from hypersend_server.realtime.unknown import UnknownSockets

PATH = "/api/v1/ws"
AUTH_TIMEOUT_S = 10.0
CLOSE_S = 3.0  # commands that are under way when the server stops get this long
MAX_IN_FLIGHT = 64
FRAMES_PER_S = 100
FRAMES_BURST = 2000

Command = Callable[[Caller, Any], Awaitable[Any]]
"""(caller, frame) → the data of the ack: a resource, bytes of JSON, or None. Raises: HyperSendError."""

log = logging.getLogger(__name__)

_CLOSE_CODES = {
    "token_expired": wire.TOKEN_EXPIRED, "session_ended": wire.SESSION_ENDED, "rate_limited": wire.TOO_MANY}


class TokenAuthenticator(Protocol):
    async def authenticate_token(self, token: str) -> Caller:
        """Raises: HyperSendError `token_expired`, `session_ended`, and others that mean: not allowed."""


class SocketEdge:
    """The aiohttp side of realtime.

    commands: one for each client frame other than auth, ping and presence.watch. origins: web origins whose
    pages may open sockets, besides those of the server's own host. limits: keyed by session; FRAMES_PER_S
    with FRAMES_BURST, or none. unknown: counts those that have not signed in.
    """

    def __init__(
        self,
        hub: Hub,
        presence: PresenceBoard,
        authenticator: TokenAuthenticator,
        commands: Mapping[type[wire.ClientFrame], Command],
        *,
        epoch: str,
        origins: Collection[str],
        limits: Limits,
        clock: Clock,
        auth_timeout_s: float = AUTH_TIMEOUT_S,
        unknown: UnknownSockets | None = None,
    ) -> None:
        missing = {*wire.CLIENT_FRAMES} - {*commands} - {wire.Auth, wire.Ping, wire.PresenceWatch}
        if missing:
            raise ValueError(f"no command for {sorted(kind.__name__ for kind in missing)}")
        self._hub = hub
        self._presence = presence
        self._authenticator = authenticator
        self._commands = dict(commands)
        self._epoch = epoch
        self._origins = Origins(origins)
        self._limits = limits
        self._clock = clock
        self._auth_timeout_s = auth_timeout_s
        self._unknown = unknown or UnknownSockets()
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler of PATH. Raises: `validation_failed`, `not_ready`, `not_allowed`, `rate_limited`."""
        if request.query:
            raise validation_failed(*((name, "is not known here") for name in sorted(set(request.query))))
        if self._hub.stopping:
            raise HyperSendError("not_ready", "The server is stopping.")
        self._origins.require_own(request)
        token = request.headers.get(hdrs.AUTHORIZATION)
        with contextlib.ExitStack() as unknown:
            if token is None or not await self._is_known(token):
                unknown.enter_context(self._unknown.counted(request))
            connection = Connection(self._limits)
            response = await connection.open(request)
            self._hub.opened(connection)
            try:
                caller = await self._sign_in(request, connection)
                unknown.close()
                if caller is not None:
                    await self._read(connection, caller)
                while await connection.receive() is not None:
                    pass  # it closes: read what still comes, up to the client's own close frame
            finally:
                self._hub.closed(connection)
        return response

    async def _is_known(self, header: str) -> bool:
        """Whether signing in with it will succeed; where not, the socket is opened all the same, to say why."""
        try:
            await self._authenticator.authenticate_token(_bearer(header))
        except Exception:  # whatever it is: the next attempt says it over the socket
            return False
        return True

    async def close(self) -> None:
        """Wait for the commands that are still under way."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=CLOSE_S)

    async def _sign_in(self, request: web.Request, connection: Connection) -> Caller | None:
        """The caller, who has been told `ready`; or None where the socket was closed instead."""
        ref = None
        try:
            header = request.headers.get(hdrs.AUTHORIZATION)
            if header is not None:
                token = _bearer(header)
            else:
                try:
                    async with asyncio.timeout(self._auth_timeout_s):
                        data = await connection.receive()
                except TimeoutError:
                    raise HyperSendError("unauthenticated", "No auth frame came.") from None
                if data is None:
                    return None
                frame = wire.parse(data)
                if not isinstance(frame, wire.Auth):
                    raise HyperSendError("unauthenticated", "The first frame must be auth.")
                token, ref = frame.token, frame.ref
            caller = await self._authenticator.authenticate_token(token)
            self._hub.signed_in(connection, caller.user_id, caller.session_id)
            connection.send_json(wire.ready(caller.session_id, caller.user_id, self._clock(), self._epoch))
            if ref is not None:
                connection.send_json(wire.ack(ref))
            # Again, now that the hub hears of this session's end: it could have come between the two.
            await self._authenticator.authenticate_token(token)
            return caller
        except wire.BadFrame as error:
            connection.close(wire.BAD_FRAME, str(error))
        except wire.FrameRefused as refused:
            connection.close(wire.NOT_ALLOWED, refused.error.code)
        except HyperSendError as error:
            code = wire.SERVER_FAILED if error.kind.status >= 500 else wire.NOT_ALLOWED
            connection.close(_CLOSE_CODES.get(error.code, code), error.code)
        except Exception:
            # Not left to the middleware: its answer would stand in the middle of a WebSocket.
            log.exception("signing in over a socket failed")
            connection.close(wire.SERVER_FAILED, "internal")
        return None

    async def _read(self, connection: Connection, caller: Caller) -> None:
        loop = asyncio.get_running_loop()
        running = self._running
        while (data := await connection.receive()) is not None:
            try:
                frame = wire.parse(data)
            except wire.FrameRefused as refused:
                connection.send_json(wire.error(refused.ref, refused.error))
                continue
            except wire.BadFrame as bad:
                connection.close(wire.BAD_FRAME, str(bad))
                continue
            connection.in_flight += 1
            task = loop.create_task(self._run(connection, caller, frame))
            running.add(task)
            task.add_done_callback(running.discard)
            if connection.in_flight >= MAX_IN_FLIGHT:
                connection.room = loop.create_future()
                await connection.room

    async def _run(self, connection: Connection, caller: Caller, frame: wire.AnyClientFrame) -> None:
        """One frame's command, and its answer."""
        try:
            data = await self._perform(connection, caller, frame)
            if frame.ref is not None:
                connection.send_json(wire.ack(frame.ref, data))
        except HyperSendError as error:
            connection.send_json(wire.error(frame.ref, error))
        except Exception:
            log.exception("a %s of session %s failed", type(frame).__name__, caller.session_id)
            connection.send_json(wire.error(frame.ref, HyperSendError("internal")))
        finally:
            connection.in_flight -= 1
            room = connection.room
            if room is not None:
                connection.room = None
                if not room.done():
                    room.set_result(None)

    async def _perform(self, connection: Connection, caller: Caller, frame: wire.AnyClientFrame) -> Any:
        command = self._commands.get(type(frame))
        if command is not None:
            return await command(caller, frame)
        if isinstance(frame, wire.Ping):
            connection.send_json(wire.PONG)
        elif isinstance(frame, wire.PresenceWatch):
            await self._presence.watch(connection, frame.user_ids)
        else:
            raise HyperSendError("frame_invalid", "This socket is signed in already.")
        return None


def _bearer(header: str) -> str:
    """The token of an Authorization header. Raises: HyperSendError `unauthenticated`."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise HyperSendError("unauthenticated", "The Authorization header is not a Bearer token.")
    return token.strip()
