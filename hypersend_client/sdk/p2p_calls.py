"""The calls of `/api/v1/p2p`, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from hypersend_client.sdk.models import Model, Page
from hypersend_client.sdk.pages import items_of, page_of, read
from hypersend_client.sdk.transport import Transport

OVER = frozenset({"done", "declined", "cancelled", "expired", "failed"})


@dataclass(frozen=True, slots=True)
class PeerTransfer(Model):
    """A file on its way from one device to another. sender_key, receiver_key: X25519, base64url, of the devices.

    status: offered, accepted, active, paused, done, declined, cancelled, expired or failed. file_id: of the stored
    upload that takes its place; vouch: what its sender's device says of that. transferred_bytes: verified by
    the receiver.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("id", "chat_id", "name", "size", "status")

    id: str
    chat_id: str
    name: str
    size: int
    status: str
    message_id: str = ""
    client_id: str = ""
    sender_id: str = ""
    sender_session: str = ""
    sender_key: str | None = None
    receiver_id: str | None = None
    receiver_session: str | None = None
    receiver_key: str | None = None
    mime: str = ""
    transferred_bytes: int = 0
    file_id: str | None = None
    vouch: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


class PeerCalls:
    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def tell_key(self, public_key: str) -> None:
        """Of this session's device."""
        await self._http.call("PUT", "/auth/device-key", json={"public_key": public_key})

    async def offer(
        self, chat_id: str, name: str, size: int, *, client_id: str, receiver_id: str | None = None
    ) -> PeerTransfer:
        """The same client_id again gives the first one.

        Raises: ApiError `device_needed` (the app in a browser), `blocked`, `transfer_limit`, `not_found`, …
        """
        body: dict[str, Any] = {"chat_id": chat_id, "name": name, "size": size, "client_id": client_id}
        if receiver_id:
            body["receiver_id"] = receiver_id
        return read(PeerTransfer, await self._http.call("POST", "/p2p/send", json=body, idempotent=True))

    async def accept(self, transfer_id: str) -> PeerTransfer:
        """Raises: ApiError `device_needed`, `transfer_taken`, `transfer_closed`, `not_allowed`."""
        return await self._post(transfer_id, "accept")

    async def decline(self, transfer_id: str) -> PeerTransfer:
        """Raises: ApiError `not_allowed`, `transfer_closed`."""
        return await self._post(transfer_id, "decline")

    async def cancel(self, transfer_id: str) -> PeerTransfer:
        """Raises: ApiError `not_allowed`, `transfer_closed`."""
        return await self._post(transfer_id, "cancel")

    async def store(self, transfer_id: str) -> PeerTransfer:
        """Raises: ApiError `not_allowed`, `transfer_closed`; what beginning an upload raises."""
        return await self._post(transfer_id, "store")

    async def vouch(self, transfer_id: str, vouch: str) -> PeerTransfer:
        """For a file that was stored instead (`p2p_stored`). Raises: ApiError `not_allowed`, `transfer_closed`."""
        return await self._post(transfer_id, "vouch", {"vouch": vouch})

    async def get(self, transfer_id: str) -> PeerTransfer:
        return read(PeerTransfer, await self._http.call("GET", f"/p2p/status/{quote(transfer_id, safe='')}"))

    async def open(self) -> list[PeerTransfer]:
        """What one sends, or was offered by name, and is not over: the oldest first."""
        return items_of(PeerTransfer, await self._http.call("GET", "/p2p"))

    async def history(self, chat_id: str, *, limit: int = 50, cursor: str | None = None) -> Page[PeerTransfer]:
        """A chat's transfers, the newest first."""
        query = {"limit": limit, "cursor": cursor}
        path = f"/p2p/history/{quote(chat_id, safe='')}"
        return page_of(PeerTransfer, await self._http.call("GET", path, query=query))

    async def _post(self, transfer_id: str, what: str, body: dict[str, str] | None = None) -> PeerTransfer:
        path = f"/p2p/{quote(transfer_id, safe='')}/{what}"
        return read(PeerTransfer, await self._http.call("POST", path, json=body, idempotent=True))
