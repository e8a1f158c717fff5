"""Records and contract of transfers from person to person: what was offered, to whom, and how far it came.

The bytes never come here. A transfer is *open* while its status is one of OPEN; each change of status names the ones
it may come from and is refused where another was quicker. Times are Unix milliseconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol

import msgspec

Status = Literal[
    "offered", "accepted", "active", "paused", "done", "declined", "cancelled", "expired", "failed"
]
OPEN: tuple[Status, ...] = ("offered", "accepted", "active", "paused")
MOVING: tuple[Status, ...] = ("accepted", "active", "paused")


class TransferRecord(msgspec.Struct, frozen=True, kw_only=True):
    """receiver_id: None while any member of a group may accept. *_session, *_key: the devices, once they are known.

    file_id: the stored upload it became, vouch: what its sender's device says of that. message_id: of the message that
    offers it. shown: whether that message shows this status. relay: the process that joins both ends, until
    relay_until.
    """

    id: str
    chat_id: str
    message_id: str
    client_id: str
    sender_id: str
    sender_session: str
    sender_key: str | None
    receiver_id: str | None
    receiver_session: str | None = None
    receiver_key: str | None = None
    name: str
    size: int
    mime: str
    status: Status = "offered"
    transferred_bytes: int = 0
    file_id: str | None = None
    created_at: int
    updated_at: int
    expires_at: int
    shown: bool = False
    relay: str | None = None
    relay_until: int = 0
    vouch: str | None = None


class Transfers(Protocol):
    async def offer(self, transfer: TransferRecord, most_open: int) -> tuple[TransferRecord, bool]:
        """Keep an offer: (it, whether it is new). The same client_id of the sender in the chat is the first one again.

        Raises: `blocked` where one of its two people blocks the other; `transfer_limit` where the sender has
        `most_open`.
        """

    async def get(self, transfer_id: str, first_seq: int = 0) -> TransferRecord | None:
        """None also where the message that offers it is not at `first_seq` of its chat or after it."""

    async def change(
        self, transfer_id: str, expected: Collection[Status], now: int, **fields: Any
    ) -> TransferRecord:
        """Set these fields, and `updated_at`, in one step; another `status` makes it not `shown`.

        Raises: `not_found`; `transfer_closed` where its status is none of `expected`.
        """

    async def accept(
        self, transfer_id: str, user_id: str, session_id: str, key: str | None, now: int, expires_at: int
    ) -> TransferRecord:
        """offered → accepted by this device; again by the same device changes nothing.

        Raises: `not_found`; `blocked` where this person blocks the sender or the other way; `transfer_taken` where
        another device or person has it; `transfer_closed`.
        """

    async def progress(self, transfer_id: str, transferred_bytes: int, expires_at: int, now: int) -> None:
        """So much has been verified by the receiver; never less than before. A crash may lose it."""

    async def mark_shown(self, transfer_id: str, status: Status) -> None:
        """Its message shows this status; nothing happens where it has another one meanwhile."""

    async def unshown(self, now: int, quiet_ms: int, limit: int) -> list[TransferRecord]:
        """Those whose message shows an older status, and that have not just changed: by status, then the oldest first.
        So offers, which wait here for an hour where they could not be posted, come behind what ended.

        Changed further ahead of `now` than `quiet_ms` is not just now either: the clock has been set back since."""

    async def history(
        self, chat_id: str, before_id: str | None, limit: int, first_seq: int = 0
    ) -> list[TransferRecord]:
        """Of a chat, newest first, from behind `before_id`; those that `get` finds from `first_seq` on."""

    async def open_of(self, user_id: str, limit: int) -> list[TransferRecord]:
        """Open ones that this person sends or was offered by name, oldest first."""

    async def open_between(self, chat_id: str, user_ids: Collection[str], limit: int) -> list[TransferRecord]:
        """Open ones of a chat that one of these people sends or receives."""

    async def open_of_pair(self, user_id: str, other_id: str, limit: int) -> list[TransferRecord]:
        """Open ones that one of these two sends to the other, in any chat."""

    async def open_of_sessions(
        self, user_id: str, session_ids: Collection[str], limit: int
    ) -> list[TransferRecord]:
        """Open ones that one of these devices of a person sends or receives."""

    async def of_message(self, chat_id: str, message_id: str) -> TransferRecord | None:
        """The one that this message offers."""

    async def stranded(self, limit: int) -> list[TransferRecord]:
        """Open ones that can never come to be: the session of one of its devices has ended, one of its people has
        left the chat or blocks the other, or the message that offers it was deleted."""

    async def is_blocked(self, transfer: TransferRecord) -> bool:
        """Whether one of its two people blocks the other."""

    async def expire(self, now: int, limit: int) -> list[TransferRecord]:
        """Open ones whose time is over become `expired`; these, as they are now."""

    async def claim(
        self, transfer_id: str, relay: str, now: int, until: int, instead_of: str | None = None
    ) -> str:
        """Join both ends in process `relay` until then, unless another one does so already; which one does.

        instead_of: a process that is gone, or cannot be reached, and loses its claim to the first who says so.
        Raises: `not_found`; `transfer_closed` where its status is none of MOVING.
        """

    async def release(self, transfer_id: str, relay: str) -> None:
        """This process joins it no longer."""

    async def abandoned(self, now: int, longest_ms: int, limit: int) -> list[TransferRecord]:
        """Active ones whose process does not join them any more: its claim has lapsed, or goes on for longer than any
        that is made now, since the clock has been set back."""
