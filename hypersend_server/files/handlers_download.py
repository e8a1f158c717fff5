"""The HTTP edge of downloads: a session or a ticket, then the bytes from wherever they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web

from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.files.downloads import Downloads, headers_of
from hypersend_server.files.handlers import base_url
from hypersend_server.files.present import etag_of
from hypersend_server.files.ranges import Selection, select
from hypersend_server.files.sending import open_file, send_file, send_parts
from hypersend_server.files.service import FileService
from hypersend_server.files.tickets import Tickets
from hypersend_server.files.types import DownloadQuery, Ticket, TicketBody
from hypersend_server.http import Authenticator, Call, Route, json_reply
from hypersend_server.metadata.files import FileRecord
from hypersend_storage.errors import ObjectMissing

IsActive = Callable[[str], Awaitable[bool]]


class Send(Protocol):
    """Answers with a file's bytes or a range of them, from wherever they are; direct: by redirect where it may."""

    async def __call__(
        self, request: web.Request, file: FileRecord, *, inline: bool = False, direct: bool = True
    ) -> web.StreamResponse:
        """Raises: `upload_incomplete`, `upload_expired`, `range_not_satisfiable`, `storage_unavailable`."""


_KNOWN = frozenset(DownloadQuery.__struct_fields__)
_HEADERS = {
    "Range": "bytes=FIRST-LAST; several ranges are answered whole.",
    "If-Range": "The ETag that the range belongs to.",
    "If-None-Match": "ETags; 304 where ours is among them.",
}


def routes(
    service: FileService, downloads: Downloads, tickets: Tickets, authenticator: Authenticator, is_active: IsActive,
    public_url: str,
) -> list[Route]:
    """is_active: whether a person's account may still be used; who made a ticket must be."""
    send = sender(downloads)

    async def reader_of(call: Call, file_id: str) -> str:
        ticket: str | None = call.query.ticket
        if ticket is None:
            if unknown := sorted(set(call.request.query) - _KNOWN):
                raise validation_failed(*((name, "is not known here") for name in unknown))
            return (await authenticator.authenticate(call.request, accept_upload_ticket=False)).user_id
        user_id = tickets.reader_of(ticket, file_id)
        if not await is_active(user_id):
            raise HyperSendError("ticket_invalid")
        return user_id

    async def download(call: Call) -> web.StreamResponse:
        file_id = call.path("file_id")
        file = await service.require_readable(await reader_of(call, file_id), file_id)
        return await send(call.request, file, inline=call.query.inline, direct=call.query.direct)

    async def ticket(call: Call) -> web.Response:
        file_id, caller = call.path("file_id"), call.caller
        downloads.source(await service.require_readable(caller.user_id, file_id))
        return json_reply(tickets.download(
            base_url(call.request, public_url), file_id, caller.user_id, call.body.expires_in))

    errors = ("not_found", "ticket_invalid", "upload_incomplete", "upload_expired", "range_not_satisfiable",
              "storage_unavailable")
    common: dict[str, Any] = {"tag": "files"}
    return [
        Route(method="GET", path="/api/v1/files/{file_id}/download", handler=download, auth="ticket",
              query=DownloadQuery, open_query=True, summary="The bytes, whole or a range; also HEAD.",
              replies={200: "*/*", 206: "*/*", 304: None,
                       307: None},
              headers=_HEADERS, errors=errors, **common),
        Route(method="POST", path="/api/v1/files/{file_id}/ticket", handler=ticket, body=TicketBody,
              body_optional=True, summary="A link that downloads without signing in, for a while.",
              replies={200: Ticket}, errors=("upload_incomplete", "upload_expired"), **common),
    ]


def sender(downloads: Downloads) -> Send:
    async def send_from(
        request: web.Request, file: FileRecord, *, inline: bool, direct: bool
    ) -> web.StreamResponse:
        """Raises: FileNotFoundError or ObjectMissing, before anything is sent, where the location has vanished."""
        source = downloads.source(file)
        etag = etag_of(file)
        assert etag is not None
        headers = request.headers
        selection = select(
            file.size, etag, range_=headers.get("Range") if request.method == "GET" else None,
            if_range=headers.get("If-Range"), if_none_match=headers.get("If-None-Match"))
        answer = headers_of(file, selection, inline=inline)
        if selection.status == 304:
            return web.Response(status=304, headers=answer)
        if source.accel is not None:  # the proxy does ranges itself, by our ETag
            answer.pop("Content-Range", None)
            answer.pop("Accept-Ranges")
            return web.Response(headers={**answer, "X-Accel-Redirect": source.accel})
        if selection.status == 416:
            raise HyperSendError("range_not_satisfiable", headers={
                "Content-Range": answer["Content-Range"], "Accept-Ranges": "bytes"})
        if request.method == "HEAD" or selection.length == 0:
            response = web.StreamResponse(status=selection.status, headers=answer)
            response.content_length = selection.length
            await response.prepare(request)
            await response.write_eof()
            return response
        if direct and _may_redirect(request, selection) and (
            url := downloads.direct_url(file, inline=inline)
        ) is not None:
            return web.Response(status=307, headers={
                "Location": url, "ETag": etag, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        response = web.StreamResponse(status=selection.status, headers=answer)
        if source.path is not None:
            return await send_file(
                request, response, await open_file(source.path), selection.start, selection.length)
        parts = downloads.read(file, selection.start, selection.length)
        return await send_parts(request, response, await anext(parts), parts, selection.length)

    async def send(
        request: web.Request, file: FileRecord, *, inline: bool = False, direct: bool = True
    ) -> web.StreamResponse:
        while True:
            try:
                return await send_from(request, file, inline=inline, direct=direct)
            except (FileNotFoundError, ObjectMissing):  # it is being moved to another store
                file = msgspec.structs.replace(await downloads.again(file), name=file.name, mime=file.mime)

    return send


def _may_redirect(request: web.Request, selection: Selection) -> bool:
    """A range that is answered whole (a stale If-Range, several ranges) would be read otherwise by the store.
    A page's own requests stay here: pages that ask for isolation load nothing from another origin."""
    is_whole_for_range = "Range" in request.headers and selection.status == 200
    return not is_whole_for_range and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
