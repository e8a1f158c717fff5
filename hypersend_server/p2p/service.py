"""The rules of transfers, free of HTTP: who may offer, accept and end them, and who is told.

The bytes go from device to device (`relay`); here is only what is known about them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, Protocol

import msgspec

from hypersend_server import cursors
from hypersend_server.clock import Clock, rfc3339
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.transfers import MOVING, OPEN, Status, TransferRecord, Transfers
from hypersend_server.p2p.types import HistoryQuery, SendBody, Transfer
from hypersend_server.p2p.wire import Role
from hypersend_server.realtime import wire
from hypersend_server.realtime.events import Bus, Frame, TransferEnded
from hypersend_server.resources import Items

MOST_OPEN = 200  # of one sender
OFFER_MS = 3 * 86_400_000  # an offer that nobody takes ends after this
UNPOSTED_MS = 3_600_000  # one whose message could not be posted, unless its sender tries again by then
CLAIM_MS = 30_000  # a process that joins a transfer says so every third of this
LONGEST_CLAIM_MS = 2 * CLAIM_MS  # by clocks that agree to half of that
QUIET_MS = 5000  # after which whoever changed it has shown that, or never will
GRACE_MS = 7 * 86_400_000  # one that was accepted ends so long after its last byte
BATCH = 100
STORED: tuple[Status, ...] = ("cancelled",)  # and with a file_id
OFFERED: tuple[Status, ...] = ("offered",)
_STEADY: tuple[Status, ...] = ("offered", "accepted", "done", "declined", "cancelled", "expired", "failed")
log = logging.getLogger(__name__)


class Device(NamedTuple):
    """key: X25519, base64url, or None where it has not said one. is_web: the app in a browser."""

    key: str | None
    is_web: bool


class Caller(Protocol):
    """Who asks, from which device."""

    @property
    def user_id(self) -> str: ...

    @property
    def session_id(self) -> str: ...


class InChats(Protocol):
    """What this room needs of chats."""

    async def peer_in(self, chat_id: str, user_id: str) -> tuple[bool, str | None]:
        """(whether it is a group, the other one of a direct chat or oneself in the saved one).

        Raises: `not_found` for who is no member.
        """

    async def is_member(self, chat_id: str, user_id: str) -> bool: ...

    async def first_seq(self, chat_id: str, user_id: str) -> int | None:
        """The first message there that this person may see; None for who is no member."""

    async def post_transfer(
        self, user_id: str, chat_id: str, message_id: str, client_id: str, transfer: dict[str, Any]
    ) -> bool:
        """The message that offers it, once; whether it is new. Raises: `not_found`, `blocked`,
        `idempotency_conflict`, …"""

    async def show_transfer(self, chat_id: str, message_id: str, transfer: dict[str, Any]) -> bool: ...


class Limit(Protocol):
    def take(self, key: str) -> int | None:
        """None where one more is allowed, else the seconds to wait."""


class TransferService:
    """device_of: of a session, None where that has ended. begin_upload: (user, chat, name, size, mime, key) → the id of
    the stored upload that takes the place of a transfer, the same again for the same key. abort_upload: (user, id).
    clean_name: a name fit to be shown and kept."""

    def __init__(
        self, transfers: Transfers, bus: Bus, chats: InChats, *, device_of: Callable[[str], Awaitable[Device | None]],
        begin_upload: Callable[[str, str, str, int, str, str], Awaitable[str]],
        abort_upload: Callable[[str, str], Awaitable[None]],
        clean_name: Callable[[str], str], media_type: Callable[[str | None, str], str], limit: Limit, clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._transfers = transfers
        self._bus = bus
        self._chats = chats
        self._device_of = device_of
        self._begin_upload = begin_upload
        self._abort_upload = abort_upload
        self._clean_name = clean_name
        self._media_type = media_type
        self._limit = limit
        self._clock = clock
        self._new_id = new_id
        self._ahead: dict[str, int] = {}  # transfer → until when it is claimed, further ahead than claims are made

    # The life of a transfer

    async def send(self, caller: Caller, body: SendBody) -> tuple[Transfer, bool]:
        """Offer a file: (it, whether it is new).

        Raises: `not_found`, `not_allowed`, `device_needed`, `blocked`, `transfer_limit`, `rate_limited`,
        `idempotency_conflict` (another file, or for somebody else, had this client_id).
        """
        if (wait_s := self._limit.take(caller.user_id)) is not None:
            raise HyperSendError("rate_limited", retry_after_s=wait_s)
        device = await self._device(caller)
        receiver_id = await self._receiver(caller.user_id, body)
        now = self._clock()
        name = self._clean_name(body.name)
        transfer, is_new = await self._transfers.offer(
            TransferRecord(
                id=self._new_id(), chat_id=body.chat_id, message_id=self._new_id(), client_id=body.client_id,
                sender_id=caller.user_id, sender_session=caller.session_id, sender_key=device.key,
                receiver_id=receiver_id, name=name, size=body.size, mime=self._media_type(body.mime, name),
                created_at=now, updated_at=now, expires_at=now + OFFER_MS),
            MOST_OPEN)
        if not is_new:
            if (transfer.chat_id, transfer.name, transfer.size) != (body.chat_id, name, body.size) or (
                    body.receiver_id is not None and transfer.receiver_id != receiver_id):
                raise HyperSendError("idempotency_conflict", "This client_id was used for another file.")
            if transfer.status not in OPEN:
                return self.present(transfer), False
        try:  # also where it is known: what the first try was cut off before is done now
            is_posted = await self._chats.post_transfer(
                transfer.sender_id, transfer.chat_id, transfer.message_id, transfer.client_id,
                self.snapshot(transfer))
        except HyperSendError as error:
            if is_new and not error.retryable:
                await self._transfers.change(transfer.id, OPEN, now, status="failed")
            raise
        if is_posted or not transfer.shown:
            await self._transfers.mark_shown(transfer.id, "offered")
            self._tell(transfer)
        return self.present(transfer), is_new

    async def _receiver(self, user_id: str, body: SendBody) -> str | None:
        is_group, peer_id = await self._chats.peer_in(body.chat_id, user_id)
        if not is_group:
            if body.receiver_id not in (None, peer_id):
                raise HyperSendError("not_found", "There is no such person in this chat.")
            return peer_id
        if body.receiver_id is not None and not await self._chats.is_member(body.chat_id, body.receiver_id):
            raise HyperSendError("not_found", "There is no such person in this chat.")
        return body.receiver_id

    async def accept(self, caller: Caller, transfer_id: str) -> Transfer:
        """Raises: `not_found`, `not_allowed`, `device_needed`, `blocked`, `transfer_taken`, `transfer_closed`."""
        transfer = await self._visible(caller.user_id, transfer_id)
        device = await self._device(caller)
        if transfer.sender_session == caller.session_id:
            raise HyperSendError("not_allowed", "A device cannot send to itself.")
        if transfer.receiver_id not in (None, caller.user_id):
            if transfer.receiver_session is not None:
                raise HyperSendError("transfer_taken")
            raise HyperSendError("not_allowed", "This was offered to somebody else.")
        if transfer.receiver_id is None and transfer.sender_id == caller.user_id:
            raise HyperSendError("not_allowed", "One's own offer to a group is for the others.")
        if transfer.status in OPEN and await self._device_of(transfer.sender_session) is None:
            await self.withdraw(transfer_id)  # its sender can never come; what follows says that it is over
        now = self._clock()
        return await self._changed(await self._transfers.accept(
            transfer_id, caller.user_id, caller.session_id, device.key, now, now + GRACE_MS))

    async def decline(self, caller: Caller, transfer_id: str) -> Transfer:
        """Raises: `not_found`, `not_allowed`, `transfer_closed`."""
        transfer = await self._visible(caller.user_id, transfer_id)
        if transfer.receiver_id != caller.user_id:
            raise HyperSendError("not_allowed", "Only the one it was offered to may decline.")
        if transfer.status == "declined":
            return self.present(transfer)
        return await self._end(transfer_id, OFFERED, "declined")

    async def cancel(self, caller: Caller, transfer_id: str) -> Transfer:
        """By either side, at any time. Who has left the chat has nothing to cancel: leaving did it.

        Raises: `not_found`, `not_allowed`, `transfer_closed`.
        """
        transfer = await self._visible(caller.user_id, transfer_id)
        if caller.user_id not in (transfer.sender_id, transfer.receiver_id):
            raise HyperSendError("not_allowed", "Only its two people may cancel a transfer.")
        if transfer.status == "cancelled":
            return self.present(transfer)
        return await self._end(transfer_id, OPEN, "cancelled")

    async def store(self, caller: Caller, transfer_id: str) -> Transfer:
        """Turn it into a stored upload of its sender's: `file_id` names it, and the transfer is over.

        Raises: `not_found`, `not_allowed`, `transfer_closed`; what beginning an upload raises.
        """
        transfer = await self._visible(caller.user_id, transfer_id)
        if transfer.sender_id != caller.user_id:
            raise HyperSendError("not_allowed", "Only its sender may turn a transfer into an upload.")
        if transfer.file_id is not None:
            return self.present(transfer)
        if transfer.status not in (*OPEN, "expired", "failed"):
            raise HyperSendError("transfer_closed", f"The transfer is {transfer.status}.")
        file_id = await self._begin_upload(
            transfer.sender_id, transfer.chat_id, transfer.name, transfer.size, transfer.mime, f"p2p-{transfer.id}")
        try:
            return await self._end(transfer_id, (*OPEN, "expired", "failed"), "cancelled", file_id=file_id)
        except HyperSendError as error:
            if error.code not in ("transfer_closed", "not_found"):
                raise
            found = await self._transfers.get(transfer_id)
            if found is not None and found.file_id == file_id:  # the same call was quicker
                return self.present(found)
            try:  # it was received meanwhile: nobody will send that upload
                await self._abort_upload(transfer.sender_id, file_id)
            except HyperSendError as failed:
                log.warning("upload %s of transfer %s stays until it expires: %s", file_id, transfer_id, failed)
            raise

    async def vouch(self, caller: Caller, transfer_id: str, vouch: str) -> Transfer:
        """Keep what the sender's device says of the file that it stored instead, for the receiver's device.

        Raises: `not_found`, `not_allowed`; `transfer_closed` where it was not stored.
        """
        transfer = await self._visible(caller.user_id, transfer_id)
        if transfer.sender_id != caller.user_id:
            raise HyperSendError("not_allowed", "Only its sender may vouch for a stored transfer.")
        if transfer.file_id is None:
            raise HyperSendError("transfer_closed", "The transfer was not turned into an upload.")
        changed = await self._transfers.change(transfer_id, STORED, self._clock(), vouch=vouch)
        self._tell(changed)
        return self.present(changed)

    async def status(self, caller: Caller, transfer_id: str) -> Transfer:
        """Raises: `not_found`."""
        return self.present(await self._visible(caller.user_id, transfer_id))

    async def history(self, caller: Caller, chat_id: str, query: HistoryQuery) -> Items[Transfer]:
        """Raises: `not_found`, `cursor_invalid`."""
        first_seq = await self._chats.first_seq(chat_id, caller.user_id)
        if first_seq is None:
            raise HyperSendError("not_found", "There is no such chat, or you may not see it.")
        rows = await self._transfers.history(chat_id, cursors.position(query.cursor), query.limit + 1, first_seq)
        kept, cursor = cursors.page(rows, query.limit, lambda transfer: transfer.id)
        return Items([self.present(transfer) for transfer in kept if _may_see(caller.user_id, transfer)], cursor)

    async def open(self, caller: Caller) -> Items[Transfer]:
        """What this person sends, or was offered by name, and is not over: oldest first."""
        found = await self._transfers.open_of(caller.user_id, MOST_OPEN)
        return Items([self.present(transfer) for transfer in found if _may_see(caller.user_id, transfer)], None)

    # For the relay

    async def for_end(self, transfer_id: str, role: Role, session_id: str) -> TransferRecord:
        """The transfer, for the device that is this end of it. Raises: `not_found`, `blocked`, `transfer_closed`."""
        transfer = await self._transfers.get(transfer_id)
        session, user_id = (None, None) if transfer is None else (
            (transfer.sender_session, transfer.sender_id) if role == "sender"
            else (transfer.receiver_session, transfer.receiver_id))
        if transfer is None or session != session_id or not await self._chats.is_member(
                transfer.chat_id, user_id or ""):
            raise HyperSendError("not_found", "There is no such transfer, or it is not this device's.")
        if await self._transfers.is_blocked(transfer):
            raise HyperSendError("blocked")
        if transfer.status not in MOVING:
            raise HyperSendError(
                "transfer_closed", f"The transfer is {transfer.status}.", extra={"transfer_status": transfer.status})
        return transfer

    async def moved(self, transfer_id: str, status: Status) -> None:
        """It is `active` or `paused` now; where it is over, nothing happens."""
        await self._step(transfer_id, MOVING, status)

    async def progressed(self, transfer: TransferRecord, transferred_bytes: int) -> None:
        now = self._clock()
        await self._transfers.progress(transfer.id, transferred_bytes, now + GRACE_MS, now)

    def tell_progress(self, transfer: TransferRecord, transferred_bytes: int) -> None:
        self._tell(msgspec.structs.replace(
            transfer, status="active", transferred_bytes=transferred_bytes, updated_at=self._clock()))

    async def finished(self, transfer_id: str, status: Status, **fields: Any) -> None:
        """done, failed or cancelled, as an end said; where it is over, nothing happens."""
        await self._step(transfer_id, MOVING, status, **fields)

    # Upkeep

    async def tidy(self) -> None:
        """End what nobody took, pause what lost its relay, and let messages show what they should."""
        now = self._clock()
        while expired := await self._transfers.expire(now, BATCH):
            for transfer in expired:  # all are told before anything that may fail
                self._tell_status(transfer)
            for transfer in expired:
                await self._show(transfer)
        before, self._ahead = self._ahead, {}
        for transfer in await self._transfers.abandoned(now, LONGEST_CLAIM_MS, BATCH):
            # One that lies ahead may be a living one's, until its process renews it by a clock that was set back.
            if transfer.relay_until <= now or before.get(transfer.id) == transfer.relay_until:
                await self.moved(transfer.id, "paused")
            else:
                self._ahead[transfer.id] = transfer.relay_until
        for transfer in await self._transfers.unshown(now, QUIET_MS, BATCH):
            if not await self._show(transfer) and transfer.updated_at < now - UNPOSTED_MS:
                with contextlib.suppress(HyperSendError):  # its sender was quicker, or the next turn is for it
                    failed = await self._transfers.change(transfer.id, OFFERED, now, status="failed")
                    self._bus.publish(Frame([failed.sender_id], wire.transfer(self.present(failed))))

    async def withdraw(self, transfer_id: str) -> None:
        """Cancelled by what ended elsewhere; where it is over, nothing happens."""
        await self._step(transfer_id, OPEN, "cancelled")

    # Parts of these

    async def _device(self, caller: Caller) -> Device:
        device = await self._device_of(caller.session_id)
        if device is None:
            raise HyperSendError("session_ended")
        if device.is_web:
            raise HyperSendError("device_needed")
        return device

    async def _visible(self, user_id: str, transfer_id: str) -> TransferRecord:
        transfer = await self._transfers.get(transfer_id)
        first_seq = None if transfer is None else await self._chats.first_seq(transfer.chat_id, user_id)
        if first_seq is not None and first_seq > 1:  # the chat is shown from some message on
            transfer = await self._transfers.get(transfer_id, first_seq)
        if transfer is None or first_seq is None:
            raise HyperSendError("not_found", "There is no such transfer, or you may not see it.")
        return transfer

    async def _end(self, transfer_id: str, expected: Collection[Status], status: Status, **fields: Any) -> Transfer:
        now = self._clock()
        return await self._changed(await self._transfers.change(transfer_id, expected, now, status=status, **fields))

    async def _step(self, transfer_id: str, expected: Collection[Status], status: Status, **fields: Any) -> None:
        try:
            await self._end(transfer_id, expected, status, **fields)
        except HyperSendError as error:
            if error.code not in ("transfer_closed", "not_found"):
                raise

    async def _changed(self, transfer: TransferRecord) -> Transfer:
        self._tell_status(transfer)
        await self._show(transfer)
        return self.present(transfer)

    def _tell_status(self, transfer: TransferRecord) -> None:
        """Tell everyone concerned of a new status."""
        self._tell(transfer)
        if transfer.status not in OPEN:
            self._bus.publish(TransferEnded(transfer.id, transfer.status))

    async def _show(self, transfer: TransferRecord) -> bool:
        """False: it is an offer whose message was never posted."""
        # The message keeps to what lasts: that bytes move at the moment is for the frames.
        is_there = transfer.status not in _STEADY or await self._chats.show_transfer(
            transfer.chat_id, transfer.message_id, self.snapshot(transfer))
        if not is_there and transfer.status in OFFERED:
            return False
        await self._transfers.mark_shown(transfer.id, transfer.status)
        return True

    def _tell(self, transfer: TransferRecord) -> None:
        people = dict.fromkeys(filter(None, (transfer.sender_id, transfer.receiver_id)))
        self._bus.publish(Frame([*people], wire.transfer(self.present(transfer))))

    def snapshot(self, transfer: TransferRecord) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self.present(transfer))
        return found

    def present(self, transfer: TransferRecord) -> Transfer:
        return Transfer(
            **{name: getattr(transfer, name) for name in Transfer.__struct_fields__ if not name.endswith("_at")},
            created_at=rfc3339(transfer.created_at), updated_at=rfc3339(transfer.updated_at),
            expires_at=rfc3339(transfer.expires_at))


def _may_see(user_id: str, transfer: TransferRecord) -> bool:
    """An offer whose message was never posted is its sender's alone."""
    return transfer.sender_id == user_id or transfer.shown or transfer.status not in OFFERED
