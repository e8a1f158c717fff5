"""One end of a transfer from person to person: its socket to the relay, its rounds, and coming back after a cut."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hypersend_client.sdk import lines
from hypersend_client.sdk.answers import plain_text
from hypersend_client.sdk.connection import Connection
from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError
from hypersend_client.sdk.p2p_calls import PeerCalls, PeerTransfer
from hypersend_client.sdk.p2p_endings import Endings
from hypersend_client.sdk.p2p_journal import PeerJournal, PeerRow
from hypersend_client.sdk.p2p_line import WebSocketLine
from hypersend_client.sdk.p2p_seal import (
    Cipher,
    Handshake,
    Opener,
    Role,
    Sealer,
    Way,
    cipher_of_machine,
    decode_key,
    encode_key,
    file_key,
    safety_number,
)
from hypersend_client.sdk.session import Session
from hypersend_client.sdk.transfer import Transfer
from hypersend_client.sdk.transfer_errors import (
    CorruptTransfer,
    PeerAway,
    PeerEnded,
    PeerFailed,
    SourceChanged,
    Tampered,
    TransferBusy,
    TransferCancelled,
)
from hypersend_client.sdk.transport import Transport

R = TypeVar("R")
T = TypeVar("T")

CLOSE_S = 2.0
NOTICED_S = 5.0
POLL_S = 2.0
LISTEN_S = 30.0
MOST_DOUBLINGS = 4
DIRECT_LOSSES = 2  # then the bytes stay with the relay
_FIXED = ("id", "chat_id", "name", "size", "sender_id")  # of a transfer, whatever becomes of it

# Close codes of the relay, and 1009 of RFC 6455; the others mean: connect again.
TOO_BIG = 1009
TOKEN_EXPIRED, NOT_ALLOWED, SESSION_ENDED, REPLACED, OVER = 4001, 4501, 4503, 4510, 4511


class LineCut(ConnectionFailed):
    """Nothing more can be sent."""


@cache
def own_cipher() -> Cipher:
    try:
        return cipher_of_machine(Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        return cipher_of_machine("")


class PeerEnd(Transfer[R]):
    """info: the transfer as the server has it. device: this device's key. direct: may try a direct connection.

    is_direct: the bytes go from device to device just now. rounds: how often both ends have come together.
    is_new_device: the other person was met before, and never on that device: the safety number wants to be compared.
    """

    role: Role
    heartbeat_s = 25.0
    apart_s = 60.0  # so long the other device may stay away before it is looked for by another socket, the first time

    def __init__(
        self,
        row: PeerRow,
        info: PeerTransfer,
        device: X25519PrivateKey,
        *,
        account: tuple[str, str],
        calls: PeerCalls,
        transport: Transport,
        session: Session,
        connection: Connection,
        journal: PeerJournal,
        endings: Endings,
        pool: ThreadPoolExecutor,
        direct: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name=info.name, **options)
        self.row = row
        self.info = info
        self.size_bytes = info.size
        self.done_bytes = info.transferred_bytes
        self.is_direct = False
        self.rounds = 0
        self.is_new_device = False
        self._greeting: dict[str, Any] = {}
        self._device = device
        self._account = account
        self._calls = calls
        self._http = transport
        self._session = session
        self._connection = connection
        self._journal = journal
        self._endings = endings
        self._pool = pool
        self._may_direct = direct
        self._direct_losses = 0
        self._told = asyncio.Event()
        self._line: WebSocketLine | None = None
        self._round: int | None = None
        self._handshake: Handshake | None = None
        self._early: dict[str, Any] | None = None
        self._failure: asyncio.Future[None] | None = None
        self._apart: asyncio.TimerHandle | None = None
        self._looks = 0
        self._is_over = False
        self._other: tuple[str, str] | None = None  # the other person and the device's key, once it is settled

    @property
    def transfer_id(self) -> str:
        return self.info.id

    @property
    def safety_number(self) -> str | None:
        """To be compared by the two people: of this device's key and the one that the other device must hold. None
        before both devices are known."""
        try:
            return safety_number(self._device.public_key().public_bytes_raw(), decode_key(self._peer_key))
        except HyperSendError:
            return None

    # For sender and receiver

    @abstractmethod
    async def _meet(self, sealer: Sealer, opener: Opener, offset: int) -> None:
        """A round begins. offset: from which the receiver wants the file."""

    @abstractmethod
    async def _leave(self) -> None:
        """The round is over: stop what belongs to it."""

    @abstractmethod
    async def _frames(self, frames: list[memoryview]) -> None:
        """Sealed frames of this round came over the relay; they are good until this returns."""

    @abstractmethod
    async def _control(self, kind: str, frame: dict[str, Any]) -> None:
        """ack, done and what else the other end says in the clear."""

    @abstractmethod
    def _hello(self, handshake: Handshake) -> dict[str, Any]:
        """What this end says at the beginning of a round."""

    @abstractmethod
    def _offset_of(self, theirs: dict[str, Any]) -> int:
        """The receiver's offset, in its `ready` or one's own."""

    @abstractmethod
    async def _result(self) -> R | None:
        """What the transfer came to, once it is over; None: not yet."""

    # Its life

    async def _serve(self) -> R:
        """Be connected until it is over."""
        backoff = self._make_backoff()
        refused, renewed = "", False  # the token that was refused, and whether another one was tried
        while True:
            before = self.done_bytes
            token = ""
            try:
                await self._at_once(self._until_accepted)
                if (result := await self._result()) is not None:
                    return result
                token = await self._session.token()
                if token == refused:
                    token = await self._session.renew(token)
                await self._talk(token)
                if (result := await self._result()) is not None:
                    return result
                error: HyperSendError = ConnectionFailed("the line was cut")
            except ApiError as found:
                if found.status in (400, 403, 404, 409, 410, 422):
                    raise
                if found.status == 401 and not renewed:
                    refused, renewed = token, True
                    continue
                error = found
            except PeerAway as found:
                self._set("waiting", found)
                continue
            except HyperSendError as found:
                error = found
            if self.done_bytes > before:
                backoff.reset()
                renewed = False
            await self._wait_out(error, backoff)
            self._set("running")

    async def _until_accepted(self) -> None:
        """Wait for somebody to accept. Raises: PeerEnded, Tampered."""
        while True:
            self._told.clear()
            found = await self._calls.get(self.info.id)
            if any(getattr(found, field) != getattr(self.info, field) for field in _FIXED):
                raise Tampered("the server tells of another file than before")
            self.info = found
            if self.info.status == "done":
                self._is_over = True
            elif self.info.is_over:
                raise PeerEnded(self.info.status, self.info.file_id)
            if self.info.status != "offered":
                self._check_keys()
                if await self._journal.first_key(self.row.key, self._peer_key or "") != self._peer_key:
                    # People may have compared the safety number: from then on it stays.
                    raise Tampered("the server tells another key for the other device than before")
                self._other = (self._other_id, self._peer_key or "")
                await self._journal.note_met(self._account, self.info.chat_id, *self._other, self.info.name)
                self.is_new_device = await self._journal.is_new_device(self._account, *self._other)
                return
            self._set("waiting", PeerAway(accepted=False))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S if self._connection.state == "online" else POLL_S):
                    await self._told.wait()

    async def _at_once(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it, and anew when the network comes back: what was asked before may never be answered."""
        while True:
            work, hurry = asyncio.create_task(begin()), asyncio.create_task(self._hurry.wait())
            try:
                await asyncio.wait({work, hurry}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
            finally:
                for task in (work, hurry):
                    task.cancel()
                await asyncio.gather(work, hurry, return_exceptions=True)

    def told(self) -> None:
        """The account's own socket said that the transfer changed."""
        self._told.set()

    def _check_keys(self) -> None:
        """Raises: KeyMissing; Tampered where the server tells another key than ours for us."""
        own = self.info.sender_key if self.role == "sender" else self.info.receiver_key
        if decode_key(own) != self._device.public_key().public_bytes_raw():
            raise Tampered("the server tells another key for this device")
        decode_key(self._peer_key)

    async def _remember_device(self) -> None:
        """The transfer was finished: from now on that device is known, whatever the server says of it now."""
        if self._other is not None:
            await self._journal.remember_device(self._account, *self._other)

    @property
    def _other_id(self) -> str:
        return (self.info.receiver_id if self.role == "sender" else self.info.sender_id) or ""

    @property
    def _peer_key(self) -> str | None:
        return self.info.receiver_key if self.role == "sender" else self.info.sender_key

    async def _talk(self, token: str) -> None:
        """One socket, until it closes. Raises: what it closes with."""
        path = f"/p2p/{self.role}/{self.info.id}"
        try:
            upgraded = await self._at_once(lambda: self._http.upgrade(path, token))
        except ApiError as error:
            if error.status in (404, 409, 410):  # over, or never ours: the server says which
                await self._until_accepted()
                if self._is_over:
                    return
            raise
        line = self._line = WebSocketLine(upgraded, heartbeat_s=self.heartbeat_s)
        self._early = None
        self._failure = asyncio.get_running_loop().create_future()
        reading = asyncio.create_task(self._read(line))
        watching = self._watch_line(line)
        self._look_again_later()
        has_failed = False
        try:
            await asyncio.wait({reading, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            await reading
        except (Tampered, PeerFailed, SourceChanged, CorruptTransfer) as error:
            if not self._is_over:
                has_failed = True
                await self._tell_failure(error.reason if isinstance(error, PeerFailed) else error.code)
            raise
        finally:
            if not self._failure.cancel() and not self._failure.cancelled():
                self._failure.exception()  # told above, or of no importance any more
            self._line = None
            reading.cancel()
            watching.cancel()
            self._stop_looking()
            await asyncio.gather(reading, return_exceptions=True)
            await self._end_round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await line.close()
            if has_failed:  # what was said on the line may be lost with it
                await self._endings.say(self._account, self.info.id)

    def _watch_line(self, line: WebSocketLine) -> asyncio.Task[None]:
        """A slow receiver may hold us back for long, a line on which nobody is any more may not."""
        sock = line.get_extra_info("socket")
        lines.be_patient(sock)
        lines.ask_when_idle(sock)
        return asyncio.create_task(lines.watch(sock, lambda: self._fail(ConnectionFailed("nobody answers any more"))))

    def _look_again_later(self) -> None:
        """Unless both ends meet first: the other one may be on another line, of which the relay does not know. Mostly
        it is switched off, so ever more rarely."""
        self._stop_looking()
        wait_s = self.apart_s * 2 ** min(self._looks, MOST_DOUBLINGS)
        self._apart = asyncio.get_running_loop().call_later(wait_s, self._look_again)

    def _look_again(self) -> None:
        self._looks += 1
        self._fail(PeerAway())

    def _stop_looking(self) -> None:
        if self._apart is not None:
            self._apart.cancel()
            self._apart = None

    async def _tell_failure(self, code: str) -> None:
        """The other end and the server hear why it cannot be finished."""
        self._is_over = True
        with contextlib.suppress(HyperSendError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._say({"type": "fail", "code": code})

    async def _read(self, line: WebSocketLine) -> None:
        while messages := await line.receive():
            frames: list[memoryview] = []
            for message in (*messages, None):  # None: what comes last
                if isinstance(message, memoryview):
                    frames.append(message)
                    continue
                if frames and self._round is not None and self._handshake is None:  # else they are of a round before
                    await self._frames(frames)
                frames = []
                if message is not None:
                    await self._text(message)
        await self._closed(line.close_code)

    async def _closed(self, code: int) -> None:
        if code == TOKEN_EXPIRED:
            raise ApiError("token_expired", status=401, retryable=True)
        if code == SESSION_ENDED:
            account = self._session.account
            await self._session.ended(account.access_token if account is not None else "", "session_ended")
        if code == REPLACED:
            raise TransferBusy(self.row.path)
        if code in (1000, OVER):
            if not self._is_over:
                await self._until_accepted()
        elif code in (NOT_ALLOWED, TOO_BIG) or (4500 <= code <= 4999 and code not in (SESSION_ENDED, OVER)):
            raise ApiError(f"closed_{code}", detail="the server refused this end of the transfer")
        if not self._is_over:
            raise ConnectionFailed(f"the socket closed with {code}")

    async def _text(self, text: str) -> None:
        try:
            frame = json.loads(text)
        except (ValueError, RecursionError):
            raise Tampered("a control frame cannot be read") from None
        kind = frame.get("type") if isinstance(frame, dict) else None
        match kind:
            case "peer":
                await self._peer(frame)
            case "hello" | "ready":
                await self._greeted(frame)
            case "fail":
                self._is_over = True
                raise PeerFailed(plain_text(frame.get("code"))[:64])
            case "cancel":
                self._is_over = True
                raise PeerEnded("cancelled")
            case str():
                await self._control(kind, frame)

    async def _peer(self, frame: dict[str, Any]) -> None:
        await self._end_round()
        number = frame.get("round")
        if frame.get("present") is not True or not isinstance(number, int) or isinstance(number, bool):
            self._set("waiting", PeerAway())
            self._look_again_later()
            return
        self._stop_looking()
        self._looks = 0
        self._round = number
        self._handshake = self._make_handshake("relay")
        self._greeting = self._hello(self._handshake) | {"round": number, "key": self._handshake.key}
        await self._say(self._greeting)
        if self._early is not None:
            early, self._early = self._early, None
            await self._greeted(early)

    def _make_handshake(self, way: Way) -> Handshake:
        return Handshake(
            self.role, self._device, decode_key(self._peer_key), transfer_id=self.info.id, round_=self._round or 0,
            cipher=own_cipher(), way=way)

    def _file_key(self) -> bytes:
        return file_key(self._device, decode_key(self._peer_key), self.info.id)

    async def _greeted(self, frame: dict[str, Any]) -> None:
        number = frame.get("round")
        if number != self._round or self._handshake is None:
            if isinstance(number, int) and number > (self._round or 0):
                self._early = frame  # it was quicker than the relay's own word to us
            return
        cipher: Cipher = "chacha20-poly1305" if frame.get("cipher") == "chacha20-poly1305" else "aes-256-gcm"
        offset = self._offset_of(frame)
        sealer, opener = self._handshake.finish(frame.get("key"), cipher, offset)
        self._handshake = None
        self.rounds += 1
        self._set("running")
        await self._meet(sealer, opener, offset)

    async def _end_round(self) -> None:
        had_met = self._round is not None
        self._round = self._handshake = None
        self.is_direct = False
        if had_met:
            await self._leave()

    async def _say(self, frame: dict[str, Any]) -> None:
        """Raises: ConnectionFailed."""
        with self._line_of_round() as line:
            line.say(json.dumps(frame))

    async def _send(self, frame: bytes) -> None:
        """A sealed frame. Raises: ConnectionFailed."""
        with self._line_of_round() as line:
            await line.send(frame)

    @contextlib.contextmanager
    def _line_of_round(self) -> Iterator[WebSocketLine]:
        """Raises: ConnectionFailed."""
        try:
            if self._line is None:
                raise ConnectionResetError
            yield self._line
        except OSError as error:
            raise LineCut("the line was cut") from error

    def _fail(self, error: BaseException) -> None:
        """Something that belongs to the round went wrong: it ends the socket."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _watch(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """What ends this task ends the socket."""

        def done(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                if not task.cancelling():  # not by us
                    self._fail(ConnectionFailed("a part of the round ended by itself"))
                return
            if (error := task.exception()) is None:
                return
            if isinstance(error, LineCut):
                self._fail_later(error)
            else:
                self._fail(error)

        task.add_done_callback(done)
        return task

    def _fail_later(self, error: LineCut) -> None:
        """Whoever reads the socket notices, and may first find there why it was closed. If not, nothing would move."""
        failure = self._failure
        asyncio.get_running_loop().call_later(
            NOTICED_S, lambda: self._fail(error) if self._failure is failure else None)

    def _lost_direct(self) -> None:
        """The direct connection broke: both ends meet anew on the relay."""
        if self._failure is None or self._failure.done():
            return  # who reads notices it as well as who writes: that is one loss
        self._direct_losses += 1
        self._fail(ConnectionFailed("the direct connection broke"))

    async def _wait_for_turn(self, size_bytes: int) -> None:
        """Wait until so many bytes may pass."""
        for limit in self._limits:
            while (wait_s := limit.take(size_bytes)) > 0:
                await asyncio.sleep(min(wait_s, 0.5))

    @property
    def _is_limited(self) -> bool:
        return any(limit.bytes_per_s is not None for limit in self._limits)

    @property
    def _tries_direct(self) -> bool:
        return self._may_direct and self._direct_losses < DIRECT_LOSSES

    def _own_address(self) -> str | None:
        """From which this device reaches the server."""
        name = None if self._line is None else self._line.get_extra_info("sockname")
        return str(name[0]).partition("%")[0] if isinstance(name, tuple) else None

    def _is_on_loopback(self) -> bool:
        address = self._own_address()
        with contextlib.suppress(ValueError):
            return address is not None and ipaddress.ip_address(address).is_loopback
        return False

    async def _discard(self) -> None:
        self._set("cancelled", TransferCancelled())  # nobody has to wait until the server has heard it
        await self._endings.say(self._account, self.info.id)
        await self._journal.drop(self.row.key)

    def _public_key(self) -> str:
        return encode_key(self._device.public_key().public_bytes_raw())
