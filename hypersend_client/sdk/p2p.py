"""Files from person to person: from one device to another, sealed on the way, and never kept by the server.

    sending = await hs.p2p.send(chat.id, "film.mkv")     # offers it, and sends it once somebody accepts
    await sending.wait()

    receiving = await hs.p2p.receive(transfer_id)        # accepts it on this device
    path = await receiving.wait()

Both are `Transfer`s: progress, pause, resume, cancel, limits. `hs.p2p` needs a `Transfers` of the same account, whose
journal remembers what is on its way: the same `send` of the same file, and `receive` of the same transfer, go on where
they were. How it is sealed: `p2p_seal`; what the relay sees: `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError, LocalStorageFailed, SignedOut
from hypersend_client.sdk.events import Event, StateChanged, TransferChanged
from hypersend_client.sdk.models import Message
from hypersend_client.sdk.p2p_calls import PeerCalls, PeerTransfer
from hypersend_client.sdk.p2p_end import PeerEnd
from hypersend_client.sdk.p2p_endings import Endings
from hypersend_client.sdk.p2p_journal import PeerJournal, PeerRow
from hypersend_client.sdk.p2p_keys import DeviceKeys
from hypersend_client.sdk.p2p_names import offered_name, require_offered
from hypersend_client.sdk.p2p_receiver import PeerReceiver, part_of
from hypersend_client.sdk.p2p_seal import decode_key, encode_key, safety_number
from hypersend_client.sdk.p2p_sender import PeerSender
from hypersend_client.sdk.p2p_stored import StoredInstead
from hypersend_client.sdk.places import downloads_folder, safe_name
from hypersend_client.sdk.transfer import RateLimit
from hypersend_client.sdk.transfer_errors import SourceChanged, Tampered
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.sdk.uploads import Upload, text_of

if TYPE_CHECKING:
    from hypersend_client.sdk.client import HyperSend

MOST_AT_ONCE = 200  # in each direction; also those that wait to be accepted
THREADS = 8

End = PeerSender | PeerReceiver
# They say that one's own offer is over: the file may be offered anew.
_AGAIN = frozenset({"declined", "cancelled", "expired", "failed"})
# Where the server still lets its sender turn it into an upload.
_STORABLE = frozenset({"offered", "accepted", "active", "paused", "expired", "failed"})
log = logging.getLogger(__name__)


class SafetyNumber(NamedTuple):
    """file_name: of the last transfer with that device. user_id: whose it is."""

    file_name: str
    user_id: str
    number: str


class PeerToPeer:
    """direct: devices on the same network may speak without the relay.

    sending, receiving: those of this run by the transfer's id, ended ones too. The two limits: bytes a second of all.
    """

    def __init__(self, hs: HyperSend, keys: DeviceKeys) -> None:
        self.calls = PeerCalls(hs.transport)
        self.direct = True
        self.sending: dict[str, PeerSender] = {}
        self.receiving: dict[str, PeerReceiver] = {}
        self.send_limit = RateLimit()
        self.receive_limit = RateLimit()
        self._hs = hs
        self._keys = keys
        self._transfers: Transfers | None = None
        self._journal: PeerJournal
        self._pool: ThreadPoolExecutor
        self._unsubscribe: Callable[[], None]
        self._told_session = ""
        self._adding = asyncio.Lock()
        # One each: offers that wait to be accepted are not to keep anything from coming in.
        self._send_turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._receive_turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._stored: StoredInstead
        self._endings: Endings

    def attach(self, transfers: Transfers) -> None:
        """Where unfinished ones are remembered. `Transfers` does it by itself."""
        self._transfers = transfers
        self._journal = PeerJournal(transfers.journal)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hypersend p2p")
        self._stored = StoredInstead(self._hs, self.calls, transfers, self._journal, self._pool)
        self._endings = Endings(self.calls, self._journal, self._hs.transport.backoff)
        self._unsubscribe = self._hs.connection.on(self._hear)

    async def detach(self) -> None:
        """Stop all for now."""
        if self._transfers is None:
            return
        self._unsubscribe()
        await asyncio.gather(*(end.stop() for end in self.all))
        await self._stored.close()
        await self._endings.stop()
        self._transfers = None
        self.sending.clear()
        self.receiving.clear()
        self._pool.shutdown()

    def _hear(self, event: Event) -> None:
        if isinstance(event, TransferChanged):
            for ends in (self.sending, self.receiving):
                if (end := ends.get(str(event.transfer.get("id")))) is not None:
                    end.told()
        elif isinstance(event, StateChanged) and event.state == "online":
            self.network_changed()
            if self._hs.account is not None:
                self._endings.go_on(self._hs.account.key)

    @property
    def all(self) -> list[End]:
        return [*self.sending.values(), *self.receiving.values()]

    # Sending

    async def send(
        self, chat_id: str, path: str | os.PathLike[str], receiver_id: str | None = None, *, name: str | None = None
    ) -> PeerSender:
        """Offer a file from this device, or go on with the offer of this very file. It is started; what was offered of
        the file before it changed is cancelled.

        receiver_id: in a group, who may accept it; None: the first member who does.
        Raises: FileUnreadable, SignedOut; ApiError `device_needed`, `blocked`, `transfer_limit`, …
        """
        transfers = self._ready()
        account = await transfers.account()
        full, identity = await transfers.identify(path)
        async with self._adding:
            device = await self._device(account)
            for outdated in await self._journal.outdated(account, chat_id, receiver_id or "", full, identity):
                end = self.sending.get(outdated.transfer_id)
                if end is not None and not end.ended:
                    await end.cancel()
                elif outdated.transfer_id:
                    await self._endings.say(account, outdated.transfer_id)  # until the server has heard it
                await self._journal.drop(outdated.key)
            row = await self._journal.sending(account, chat_id, receiver_id or "", full, identity)
            name = offered_name(text_of(name or Path(path).name))
            while True:
                is_known = row is not None
                if row is None:
                    row = await self._journal.add_sending(account, chat_id, receiver_id or "", full, identity, name)
                info = await self.calls.offer(
                    chat_id, name, identity.size, client_id=row.key, receiver_id=receiver_id)
                own = self._hs.account
                if is_known and (info.status in _AGAIN or own is None or info.sender_session != own.session_id):
                    await self._journal.drop(row.key)  # over, or of a session that has ended
                    row = None
                    continue
                break
            try:
                require_offered(info, name, identity.size)
            except Tampered:
                await self._journal.drop(row.key)
                raise
            await self._journal.note_offer(row.key, info.id)
            end = self._sender(row, info, device, account)
        end.start()
        return end

    async def store(self, transfer_id: str) -> Upload:
        """Put the file on the server instead: an ordinary upload, and a message with it when it is there.

        Raises: ApiError `not_allowed`, `transfer_closed`, `quota_exceeded`, …; FileUnreadable; SourceChanged where the
        file is not the one any more that was offered.
        """
        transfers = self._ready()
        account = await transfers.account()
        rows = await self._journal.rows(account)
        row = next((row for row in rows if row.role == "sender" and row.transfer_id == transfer_id), None)
        if row is None:
            raise ApiError("not_found", status=404, detail="This device does not send that transfer.")
        _, identity = await transfers.identify(row.path)
        if not identity.is_content_of(row.identity):
            raise SourceChanged(row.path)
        info = await self.calls.store(transfer_id)
        require_offered(info, row.name, row.identity.size)
        end = self.sending.get(transfer_id)
        if end is not None:
            await end.stop()
        return await self._stored.upload(row, info, await self._device(account), account)

    async def is_sending(self, transfer_id: str) -> bool:
        """Whether this device offered it and is not done with it."""
        rows = await self._journal.rows(await self._ready().account())
        return any(row.role == "sender" and row.transfer_id == transfer_id for row in rows)

    async def posted(self, transfer_id: str) -> Message | None:
        """Of a transfer for which `store` was called: wait until its message is sent, and before it this device's word
        for what is in the file. None where that is done already, or the upload came to nothing."""
        return await self._stored.posted(transfer_id)

    # Receiving

    async def receive(
        self, transfer_id: str | None = None, folder: str | os.PathLike[str] | None = None, *,
        sender_key: str | None = None,
    ) -> PeerReceiver:
        """Accept a transfer on this device, or go on with it. It is started.

        transfer_id: None takes what this device was receiving, else the oldest that waits, else the next to come.
        folder: by default the platform's Downloads. sender_key: of which the safety number was shown; another one than
        that is Tampered.
        Raises: ApiError `transfer_taken`, `transfer_closed`, `device_needed`, `not_found`; SignedOut.
        """
        transfers = self._ready()
        account = await transfers.account()
        device = await self._device(account)
        info = await self.next() if transfer_id is None else await self.calls.get(transfer_id)
        async with self._adding:
            is_begun = any(row.key == info.id for row in await self._journal.rows(account))
            if not is_begun and info.file_id is None:
                if info.status == "done":
                    own = self._hs.account
                    if own is not None and info.receiver_session == own.session_id:
                        raise ApiError("transfer_closed", status=409, detail="It is done: this device has received it.")
                    raise ApiError("transfer_taken", status=409, detail="Another device has received it.")
                # Before the server hears of it, and may tell another one.
                await self._journal.first_key(info.id, sender_key or info.sender_key or "")
            try:
                if not (info.status == "done" or info.file_id):
                    info = await self.calls.accept(info.id)
            except HyperSendError:
                if not is_begun:
                    await self._journal.drop(info.id)
                raise
            target = Path.cwd() / (folder or transfers.folder or downloads_folder()) / safe_name(info.name)
            row = await self._journal.add_receiving(account, info.id, info.chat_id, str(target))
            end = self._receiver(row, info, device, account)
        end.start()
        return end

    async def next(self) -> PeerTransfer:
        """What this device is receiving, else the oldest that is offered to this person, else the next to come."""
        transfers = self._ready()
        account = await transfers.account()
        for row in await self._journal.rows(account):
            # Also one that is done but for its name, which this program had no time to give it.
            if row.role == "receiver" and (begun := await self._begun(row, account)) is not None:
                return begun
        came = asyncio.Event()

        def hear(event: Event) -> None:
            if isinstance(event, TransferChanged | StateChanged):
                came.set()

        unsubscribe = self._hs.connection.on(hear)
        try:
            while True:
                came.clear()
                for info in await self.calls.open():
                    if info.status == "offered" and info.receiver_id == account[1]:
                        return info
                try:
                    async with asyncio.timeout(30.0 if self._hs.connection.state == "online" else 1.0):
                        await came.wait()
                except TimeoutError:
                    pass
        finally:
            unsubscribe()

    async def _begun(self, row: PeerRow, account: tuple[str, str]) -> PeerTransfer | None:
        """What this device was sending or receiving; None where that has come to nothing. Raises: ApiError."""
        try:
            info = await self.calls.get(row.transfer_id)
        except ApiError as error:
            if error.status != 404:
                raise
            info = None
        if info is not None and (info.file_id is not None or (info.status not in _AGAIN and self._is_ours(row, info))):
            return info
        if row.role == "sender" and info is not None and info.status in _STORABLE:
            return None  # it goes on no more, and its sender may still put it on the server
        if row.role == "receiver" and row.transfer_id not in self.receiving:
            part = part_of(row.transfer_id, Path(row.path), 0 if info is None else info.size, account[0], self._pool)
            if info is not None and await part.is_whole():
                return info  # compared with its sender's: only its name is missing, whatever has become of the offer
            await part.forget()
        await self._journal.drop(row.key)
        return None

    def _is_ours(self, row: PeerRow, info: PeerTransfer) -> bool:
        """Not of a session that has ended: the server lets nobody go on with that."""
        own = self._hs.account
        session = info.sender_session if row.role == "sender" else info.receiver_session
        return own is not None and session == own.session_id

    # Both

    async def accept(self, transfer_id: str, folder: str | os.PathLike[str] | None = None) -> PeerReceiver:
        return await self.receive(transfer_id, folder)

    async def decline(self, transfer_id: str) -> PeerTransfer:
        """Raises: ApiError `not_allowed`, `transfer_closed`."""
        return await self.calls.decline(transfer_id)

    async def cancel(self, transfer_id: str) -> bool:
        """End it, from either side. False where the server cannot be reached: what this device has begun is over here,
        and the server is told later. Raises: ApiError; ConnectionFailed where this device knows nothing of it."""
        end = self.sending.get(transfer_id) or self.receiving.get(transfer_id)
        if end is not None and not end.ended:
            await end.cancel()
            return True
        try:
            await self.calls.cancel(transfer_id)
        except ConnectionFailed:
            account = await self._ready().account()
            if not any(row.transfer_id == transfer_id for row in await self._journal.rows(account)):
                raise
            await self._endings.say(account, transfer_id)
            return False
        return True

    async def open(self) -> list[PeerTransfer]:
        """What one sends, or was offered by name, and is not over: the oldest first."""
        return await self.calls.open()

    async def resume(self) -> list[End | Upload]:
        """Go on with all that was on its way when the program ended. What the server or the disk refuses of one stays
        for another time.

        Raises: SignedOut, ConnectionFailed, LocalStorageFailed where the journal cannot be read.
        """
        transfers = self._ready()
        account = await transfers.account()
        device = await self._device(account)
        found: list[End | Upload] = []
        over = await self._journal.endings(account)
        self._endings.go_on(account)
        for row in await self._journal.rows(account):
            if row.transfer_id in over:
                continue  # once the server has heard that, the next time clears it away
            try:
                if (end := await self._go_on(row, device, account)) is not None:
                    found.append(end)
            except (ApiError, LocalStorageFailed, SourceChanged, Tampered) as error:
                log.warning("transfer %s does not go on: %s", row.transfer_id, error)
        return found

    async def _go_on(
        self, row: PeerRow, device: X25519PrivateKey, account: tuple[str, str]
    ) -> End | Upload | None:
        if not row.transfer_id:
            await self._journal.drop(row.key)  # never offered: whoever asked for it asks again
            return None
        info = await self._begun(row, account)
        if info is None:
            return None
        if row.role == "sender" and info.file_id is not None:
            return await self.store(info.id)
        make: Callable[..., End] = self._sender if row.role == "sender" else self._receiver
        end = make(row, info, device, account)
        end.start()
        return end

    async def public_key(self) -> str:
        """Of this device, base64url. Raises: SignedOut, LocalStorageFailed."""
        device = await self._keys.get(await self._ready().account())
        return encode_key(device.public_key().public_bytes_raw())

    async def number_for(self, info: PeerTransfer) -> str:
        """The safety number of this device and the one that offers a transfer, before it is accepted: `receive` takes
        that key along. Of one that is begun, `safety_number` of the end itself and `safety_numbers` tell.

        Raises: KeyMissing while the other one is not known.
        """
        own = await self.public_key()
        return await asyncio.to_thread(safety_number, decode_key(own), decode_key(info.sender_key))

    async def safety_numbers(self, chat_id: str) -> list[SafetyNumber]:
        """Of the devices with which this one has begun a transfer in a chat, the latest first: made of the keys that
        sealed them, not of what the server tells now. Raises: SignedOut, LocalStorageFailed.
        """
        own = decode_key(await self.public_key())
        found = await self._journal.met(await self._ready().account(), chat_id)
        return [SafetyNumber(name, other_id, await asyncio.to_thread(safety_number, own, decode_key(key)))
                for name, other_id, key in found]

    async def is_new_device(self, info: PeerTransfer) -> bool:
        """Whether the other person was met before, and never on that device: a new phone, or somebody in between.

        False while the other device is not known. Raises: SignedOut.
        """
        account = await self._ready().account()
        is_own = info.sender_id == account[1]
        other_id, key = (info.receiver_id, info.receiver_key) if is_own else (info.sender_id, info.sender_key)
        return bool(other_id and key) and await self._journal.is_new_device(account, other_id or "", key or "")

    def network_changed(self) -> None:
        """The device has another network, or woke up: try at once what waits. The account's socket says so itself."""
        for end in self.all:
            end.told()  # what changed meanwhile was not heard
            end.network_changed()

    async def forget(self, account: tuple[str, str]) -> None:
        """This device's key, at signing out."""
        self._told_session = ""
        if self._transfers is not None:
            await self._endings.stop()  # it would speak for whoever signs in next
        await self._keys.forget(account)

    # Inside

    def _ready(self) -> Transfers:
        if self._transfers is None:
            raise RuntimeError("make a Transfers for this HyperSend first")
        return self._transfers

    async def _device(self, account: tuple[str, str]) -> X25519PrivateKey:
        """This device's key, which the server knows."""
        device = await self._keys.get(account)
        own = self._hs.account
        if own is None:
            raise SignedOut
        if self._told_session != own.session_id:
            await self.calls.tell_key(encode_key(device.public_key().public_bytes_raw()))
            self._told_session = own.session_id
        return device

    def _options(self, account: tuple[str, str], turn: asyncio.Semaphore, limit: RateLimit) -> dict[str, Any]:
        return {
            "account": account,
            "calls": self.calls,
            "transport": self._hs.transport,
            "session": self._hs.session,
            "connection": self._hs.connection,
            "journal": self._journal,
            "endings": self._endings,
            "pool": self._pool,
            "direct": self.direct,
            "turn": turn,
            "limits": (limit,),
            "backoff": self._hs.transport.backoff,
        }

    def _sender(
        self, row: PeerRow, info: PeerTransfer, device: X25519PrivateKey, account: tuple[str, str]
    ) -> PeerSender:
        end = self.sending.get(info.id)
        if end is None:
            end = self.sending[info.id] = PeerSender(
                row, info, device, **self._options(account, self._send_turn, self.send_limit))
        return end

    def _receiver(
        self, row: PeerRow, info: PeerTransfer, device: X25519PrivateKey, account: tuple[str, str]
    ) -> PeerReceiver:
        end = self.receiving.get(info.id)
        if end is None:
            end = self.receiving[info.id] = PeerReceiver(
                row, info, device, server_id=account[0],
                stored=lambda end, file_id: self._stored.receive(end, file_id, device),
                **self._options(account, self._receive_turn, self.receive_limit))
        return end


__all__ = ["PeerEnd", "PeerReceiver", "PeerSender", "PeerToPeer", "PeerTransfer", "SafetyNumber"]
