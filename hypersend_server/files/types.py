"""Requests and replies of files; the File itself is in `hypersend_server.resources`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hypersend_server.files.names import MAX_NAME_LENGTH
from hypersend_server.resources import MEDIA_TYPE, Body, Id, Page, Query, Resource

MAX_PREVIEW_BYTES = 32 * 1024
MAX_TICKET_S = 30 * 86400

Sha256Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]
PreviewBase64 = Annotated[str, Meta(max_length=-(-MAX_PREVIEW_BYTES // 3) * 4, pattern="^[A-Za-z0-9+/]*={0,2}$")]
Pixels = Annotated[int, Meta(ge=1, le=1_000_000)]


class InitBody(Body, frozen=True):
    """size: bytes. sha256: of the whole file, as its sender claims. preview: base64 of at most 32 KiB of picture."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    size: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    mime: Annotated[str, Meta(max_length=255, pattern=MEDIA_TYPE)] | None = None
    sha256: Sha256Hex | None = None
    chat_id: Id | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    duration_s: Annotated[float, Meta(ge=0, le=10_000_000)] | None = None
    preview: PreviewBase64 | None = None


class ChunkQuery(Query, frozen=True):
    """index: from 0. offset: bytes of this chunk that are there already, after a cut."""

    index: int
    offset: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0


class FileQuery(Query, frozen=True):
    digests: bool = False


class FilesQuery(Page, frozen=True):
    """chat_id: the chat's files instead of one's own. q: part of a name. state: of one's own files."""

    chat_id: Id | None = None
    state: Literal["uploading", "completing", "complete", "expired"] | None = None
    q: Annotated[str, Meta(max_length=100)] | None = None


class DownloadQuery(Query, frozen=True):
    """ticket: instead of a session; unknown keys pass where it is given. direct: false keeps the bytes on this
    server's way where it would send the client to the object store."""

    inline: bool = False
    ticket: Annotated[str, Meta(max_length=1024)] | None = None
    direct: bool = True


class TicketBody(Body, frozen=True):
    """expires_in: seconds."""

    expires_in: Annotated[int, Meta(ge=1, le=MAX_TICKET_S)] | None = None


class UploadTicketBody(Body, frozen=True):
    """chat_id: where what is uploaded with it will be shown."""

    chat_id: Id | None = None


class WantedPart(Body, frozen=True):
    """sha256: of the whole chunk."""

    index: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    sha256: Sha256Hex


class PartsBody(Body, frozen=True):
    parts: Annotated[list[WantedPart], Meta(min_length=1, max_length=200)]


class ChunkReceived(Resource):
    """size: of the chunk. received_bytes: of the file so far."""

    index: int
    size: int
    sha256: str
    received_bytes: int


class Ticket(Resource):
    url: str
    expires_at: str


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of files ended."""

    number: int
    id: str


class Uploader(msgspec.Struct, frozen=True):
    """Who uploads. ticket_id: set where an upload ticket speaks for its maker; ticket_chat_id: the chat it is for."""

    user_id: str
    ticket_id: str | None = None
    ticket_chat_id: str | None = None
