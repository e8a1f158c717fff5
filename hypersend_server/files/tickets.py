"""Tickets: signed links for those who cannot send an Authorization header, or have no account.

A download ticket stands in a URL and reads one file as its maker could at that moment. An upload ticket is sent as
Bearer by the upload page; it begins files for its maker and is good for those alone, while they upload.
Nothing is kept of either: what they say is in them, and the signature makes it true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hypersend_server.clock import Clock, rfc3339
from hypersend_server.errors import HyperSendError
from hypersend_server.files.types import Ticket
from hypersend_server.signer import Signer

DEFAULT_TTL_S = 86400


class DownloadTicket(msgspec.Struct, frozen=True, array_like=True):
    file_id: str
    user_id: str
    expires_at: int


class UploadTicket(msgspec.Struct, frozen=True, array_like=True):
    ticket_id: str
    user_id: str
    session_id: str
    chat_id: str | None
    expires_at: int


class OpenedUploadTicket(NamedTuple):
    user_id: str
    session_id: str
    ticket_id: str
    chat_id: str | None


class Tickets:
    def __init__(self, secret_key: str, clock: Clock, new_id: Callable[[], str]) -> None:
        self._downloads = Signer(secret_key, "download ticket")
        self._uploads = Signer(secret_key, "upload ticket")
        self._clock = clock
        self._new_id = new_id

    def download(self, base_url: str, file_id: str, user_id: str, ttl_s: int | None) -> Ticket:
        """base_url: where people reach the server, without a slash at its end."""
        expires_at = self._clock() + (ttl_s or DEFAULT_TTL_S) * 1000
        sealed = self._downloads.seal(DownloadTicket(file_id, user_id, expires_at))
        return Ticket(url=f"{base_url}/api/v1/files/{file_id}/download?ticket={sealed}",
                      expires_at=rfc3339(expires_at))

    def reader_of(self, ticket: str, file_id: str) -> str:
        """The id of the person whose access this download ticket lends. Raises: `ticket_invalid`."""
        try:
            opened = self._downloads.unseal(ticket, DownloadTicket)
        except ValueError:
            raise HyperSendError("ticket_invalid") from None
        if opened.file_id != file_id or opened.expires_at <= self._clock():
            raise HyperSendError("ticket_invalid")
        return opened.user_id

    def upload(self, base_url: str, user_id: str, session_id: str, chat_id: str | None) -> Ticket:
        """The address of the upload page; what follows its # never reaches a server's log."""
        expires_at = self._clock() + DEFAULT_TTL_S * 1000
        sealed = self._uploads.seal(UploadTicket(self._new_id(), user_id, session_id, chat_id, expires_at))
        return Ticket(url=f"{base_url}/upload#ticket={sealed}", expires_at=rfc3339(expires_at))

    def open_upload(self, token: str) -> OpenedUploadTicket | None:
        """What an upload ticket says; None where it is none of ours or its time is over."""
        try:
            opened = self._uploads.unseal(token, UploadTicket)
        except ValueError:
            return None
        if opened.expires_at <= self._clock():
            return None
        return OpenedUploadTicket(opened.user_id, opened.session_id, opened.ticket_id, opened.chat_id)
