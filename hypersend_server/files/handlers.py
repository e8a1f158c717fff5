"""The HTTP edge of files: parse, ask the service, answer. Uploading; downloading is in `handlers_download`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.files.bodies import Bodies
from hypersend_server.files.body import Body
from hypersend_server.files.digests import content_digest, parse_digest
from hypersend_server.files.service import FileService
from hypersend_server.files.tickets import Tickets
from hypersend_server.files.types import (
    ChunkQuery,
    ChunkReceived,
    FileQuery,
    FilesQuery,
    InitBody,
    PartsBody,
    Ticket,
    Uploader,
    UploadTicketBody,
)
from hypersend_server.files.uploads import Claims, Uploads
from hypersend_server.http import Call, Caller, Route, json_reply, no_content
from hypersend_server.resources import Direct, File, Items

MAX_KEY_LENGTH = 255
COMPLETE_WITHIN_S = 10.0
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")  # RFC 3986, no user, no path
_DIGESTS = {
    "Content-Digest": "sha-256=:BASE64: of this body (RFC 9530).",
    "Repr-Digest": "sha-256=:BASE64: of the whole chunk.",
}
_UPLOADING = ("upload_closed", "upload_expired", "upload_lost", "storage_full", "storage_unavailable")


def base_url(request: web.Request, public_url: str) -> str:
    """Where people reach the server, without a slash at its end.

    Raises: `validation_failed` where only the Host header could tell and it is no host.
    """
    if public_url:
        return public_url
    if _HOST.fullmatch(request.host) is None:
        raise validation_failed(("Host", "is a host name or address, with or without a port"))
    return f"{request.scheme}://{request.host}"


def uploader_of(caller: Caller) -> Uploader:
    return Uploader(caller.user_id, caller.ticket_id, caller.ticket_chat_id)


def routes(
    service: FileService, uploads: Uploads, tickets: Tickets, public_url: str, bodies: Bodies, *,
    complete_within_s: float = COMPLETE_WITHIN_S,
) -> list[Route]:
    """complete_within_s: completing that takes longer is answered 202."""

    async def init(call: Call) -> web.Response:
        key = call.request.headers.get("Idempotency-Key")
        if key is not None and not (1 <= len(key) <= MAX_KEY_LENGTH and key.isprintable()):
            raise validation_failed(("Idempotency-Key", f"has 1 to {MAX_KEY_LENGTH} printable characters"))
        begun = await service.init(uploader_of(call.caller), call.body, key)
        return json_reply(begun.file, 201 if begun.is_new else 200)

    async def put_chunk(call: Call) -> web.Response:
        request = call.request
        claims = Claims(request.content_length, _digest(request, "Content-Digest"), _digest(request, "Repr-Digest"))
        uploader = uploader_of(call.caller)
        with bodies.counted(uploader.user_id):
            accepted = await uploads.put_chunk(
                uploader, call.path("upload_id"), call.query.index, Body(_parts(request)), claims,
                offset=call.query.offset)
        return json_reply(
            ChunkReceived(index=accepted.chunk_index, size=accepted.size, sha256=accepted.sha256.hex(),
                          received_bytes=accepted.received_bytes),
            headers={"Repr-Digest": content_digest(accepted.sha256)})

    async def sign_parts(call: Call) -> web.Response:
        return json_reply(await service.sign_parts(uploader_of(call.caller), call.path("upload_id"), call.body))

    async def complete(call: Call) -> web.Response:
        uploader, upload_id = uploader_of(call.caller), call.path("upload_id")
        try:
            async with asyncio.timeout(complete_within_s):
                done = await service.complete(uploader, upload_id)
        except TimeoutError:  # it goes on all the same
            return json_reply(await service.get(uploader, upload_id), 202)
        return json_reply(done.file, 201 if done.is_new else 200)

    async def get(call: Call) -> web.Response:
        return json_reply(await service.get(
            uploader_of(call.caller), call.path("id"), digests=call.query.digests))

    async def remove(call: Call) -> web.Response:
        await service.remove(uploader_of(call.caller), call.path("id"))
        return no_content()

    async def list_files(call: Call) -> web.Response:
        query: FilesQuery = call.query
        if query.chat_id is None:
            return json_reply(await service.list_own(
                call.caller.user_id, query.state, query.q or "", query.cursor, query.limit))
        if query.state not in (None, "complete"):
            raise validation_failed(("state", "of a chat's files is always complete"))
        return json_reply(await service.list_chat(
            call.caller.user_id, query.chat_id, query.q or "", query.cursor, query.limit))

    async def upload_ticket(call: Call) -> web.Response:
        chat_id = call.body.chat_id
        if chat_id is not None:
            await service.require_member(chat_id, call.caller.user_id)
        return json_reply(tickets.upload(
            base_url(call.request, public_url), call.caller.user_id, call.caller.session_id, chat_id))

    common: dict[str, Any] = {"tag": "files"}
    return [
        Route(method="POST", path="/api/v1/files/init", handler=init, auth="upload", body=InitBody,
              summary="Begin an upload: size, quota and free disk are checked and reserved.",
              replies={201: File, 200: File},
              headers={"Idempotency-Key": "A retry with the same key and body answers with the same file."},
              errors=("file_too_large", "quota_exceeded", "storage_full", "storage_unavailable", "idempotency_conflict",
                      "picture_invalid", "not_allowed", "not_found", "busy"), **common),
        Route(method="PUT", path="/api/v1/files/{upload_id}/chunk", handler=put_chunk, auth="upload", query=ChunkQuery,
              summary="Send one chunk, in any order; the body is its bytes from `offset` on.",
              accepts=("application/octet-stream",), replies={200: ChunkReceived}, headers=_DIGESTS, continues=True,
              changes=False,  # a client that leaves ends the body; what was begun with it goes on
              errors=("chunk_index_invalid", "chunk_size_mismatch", "chunk_offset", "chunk_conflict", "chunk_busy",
                      "digest_mismatch", "digest_malformed", "verifying", "rate_limited", "busy", "not_ready",
                      *_UPLOADING), **common),
        Route(method="POST", path="/api/v1/files/{upload_id}/parts", handler=sign_parts, auth="upload",
              body=PartsBody, summary="URLs by which these chunks go straight to the object store.",
              replies={200: Direct},
              errors=("chunk_index_invalid", "direct_unavailable", *_UPLOADING), **common),
        Route(method="POST", path="/api/v1/files/{upload_id}/complete", handler=complete, auth="upload",
              changes=False,  # it waits for what goes on by itself
              summary="Make a file of the upload, once all chunks are there; repeatable. 202: it needs more time.",
              replies={201: File, 200: File, 202: File},
              errors=("chunks_missing", "verifying", "chunk_busy", *_UPLOADING), **common),
        Route(method="POST", path="/api/v1/files/upload-ticket", handler=upload_ticket, body=UploadTicketBody,
              body_optional=True, summary="A link to the upload page, good without signing in there.",
              replies={200: Ticket}, errors=("not_found",), **common),
        Route(method="GET", path="/api/v1/files", handler=list_files, query=FilesQuery,
              summary="One's own files, or those that a chat shows; newest first.",
              replies={200: Items[File]}, errors=("cursor_invalid", "not_found"), **common),
        Route(method="GET", path="/api/v1/files/{id}", handler=get, auth="upload", query=FileQuery,
              summary="A file; while it uploads, also what has arrived.", replies={200: File},
              errors=("upload_lost", "storage_unavailable"), **common),
        Route(method="DELETE", path="/api/v1/files/{id}", handler=remove, auth="upload",
              summary="Abort an upload or remove a file; its owner's right.", replies={204: None},
              errors=("not_allowed", "storage_unavailable"), **common),
    ]


def _digest(request: web.Request, name: str) -> bytes | None:
    values = request.headers.getall(name, ())
    return parse_digest(", ".join(values)) if values else None


async def _parts(request: web.Request) -> AsyncIterator[bytes]:
    """The body. Who asked with `Expect: 100-continue` is told to send only here, once the bytes are wanted."""
    expect = request.headers.get(hdrs.EXPECT)
    if expect is not None and request.version >= HttpVersion11:
        if expect.lower() != "100-continue":
            raise HyperSendError("malformed_body", "Only 'Expect: 100-continue' is understood.")
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    async for part in request.content.iter_any():
        yield part
