"""The calls about transfers: parse, ask the service, answer."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from hypersend_server.http import Call, Route, json_reply
from hypersend_server.p2p import wire
from hypersend_server.p2p.service import TransferService
from hypersend_server.p2p.types import HistoryQuery, SendBody, Transfer, VouchBody
from hypersend_server.resources import Items


def routes(service: TransferService) -> list[Route]:
    async def send(call: Call) -> web.StreamResponse:
        transfer, is_new = await service.send(call.caller, call.body)
        return json_reply(transfer, 201 if is_new else 200)

    async def accept(call: Call) -> web.StreamResponse:
        return json_reply(await service.accept(call.caller, call.path("transfer_id")))

    async def decline(call: Call) -> web.StreamResponse:
        return json_reply(await service.decline(call.caller, call.path("transfer_id")))

    async def cancel(call: Call) -> web.StreamResponse:
        return json_reply(await service.cancel(call.caller, call.path("transfer_id")))

    async def store(call: Call) -> web.StreamResponse:
        return json_reply(await service.store(call.caller, call.path("transfer_id")))

    async def vouch(call: Call) -> web.StreamResponse:
        return json_reply(await service.vouch(call.caller, call.path("transfer_id"), call.body.vouch))

    async def status(call: Call) -> web.StreamResponse:
        return json_reply(await service.status(call.caller, call.path("transfer_id")))

    async def history(call: Call) -> web.StreamResponse:
        return json_reply(await service.history(call.caller, call.path("chat_id"), call.query))

    async def open_transfers(call: Call) -> web.StreamResponse:
        return json_reply(await service.open(call.caller))

    def post(path: str, handler: Any, summary: str, *errors: str, body: Any = None) -> Route:
        return Route(
            method="POST", path=f"/api/v1/p2p/{path}", handler=handler, summary=summary, tag="p2p", body=body,
            replies={200: Transfer}, errors=("not_found", "not_allowed", "transfer_closed", *errors))

    def get(path: str, handler: Any, summary: str, reply: Any, **more: Any) -> Route:
        return Route(
            method="GET", path=f"/api/v1/p2p{path}", handler=handler, summary=summary, tag="p2p",
            replies={200: reply}, **more)

    return [
        Route(
            method="POST", path="/api/v1/p2p/send", handler=send, tag="p2p", body=SendBody,
            summary="Offer a file from this device; again with the same client_id: the first one.",
            replies={200: Transfer, 201: Transfer},
            errors=("not_found", "not_allowed", "device_needed", "blocked", "transfer_limit", "rate_limited",
                    "idempotency_conflict", "storage_full")),
        post("{transfer_id}/accept", accept, "Take it on this device.", "device_needed", "blocked", "transfer_taken"),
        post("{transfer_id}/decline", decline, "Refuse an offer."),
        post("{transfer_id}/cancel", cancel, "End it, from either side."),
        post("{transfer_id}/store", store, "Turn it into an upload of its sender's; `file_id` names it.",
             "file_too_large", "quota_exceeded", "storage_full", "storage_unavailable", "rate_limited"),
        post("{transfer_id}/vouch", vouch, "What the sender's device says of the stored file, for the receiver's.",
             body=VouchBody),
        get("/status/{transfer_id}", status, "A transfer as it is now.", Transfer, errors=("not_found",)),
        get("/history/{chat_id}", history, "A chat's transfers, newest first.", Items[Transfer], query=HistoryQuery,
            errors=("not_found", "cursor_invalid")),
        get("", open_transfers, "One's own that are not over, offers by name included, oldest first.",
            Items[Transfer]),
    ]


def websocket_document(path: str) -> dict[str, Any]:
    """The entry of an end's path under `x-websockets`."""
    escaped = path.replace("~", "~0").replace("/", "~1").replace("{", "{{").replace("}", "}}")
    refs, components = msgspec.json.schema_components(
        wire.END_FRAMES, ref_template=f"#/x-websockets/{escaped}/components/{{name}}")
    return {
        "summary": "One end of a transfer: JSON objects as text, the sealed file as binary frames.",
        "authentication": "the Authorization header, or an auth frame within 10 s",
        "max_text_bytes": wire.MAX_TEXT_BYTES,
        "max_binary_bytes": wire.MAX_BINARY_BYTES,
        "from_client": {
            str(frame.__struct_config__.tag): ref for frame, ref in zip(wire.END_FRAMES, refs, strict=True)},
        "close_codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
        "components": components,
    }


CLOSE_CODES: dict[int, str] = {
    1000: "the transfer is over as it should be",
    wire.TOKEN_EXPIRED: "the token had expired: refresh, connect again",
    wire.TOO_SLOW: "this end took or said nothing for a minute: connect again",
    wire.STOPPING: "the server stops: connect again, after a random delay",
    wire.BAD_FRAME: "a frame that is not known, too large, or not for this end to send",
    wire.NOT_ALLOWED: "no token, or not this device's transfer",
    wire.SESSION_ENDED: "the session has ended: sign in again",
    wire.REPLACED: "a newer socket of the same end is here",
    wire.OVER: "the transfer is over: the reason is its status",
}
