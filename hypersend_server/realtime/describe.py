"""The frames of `/api/v1/ws` as schemas: what the server sends, in types, and both directions for OpenAPI.

The server itself puts its frames together from bytes (wire.py); tests hold those to these types.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hypersend_server.realtime import wire
from hypersend_server.resources import Chat, Member, Message


class ServerFrame(msgspec.Struct, tag_field="type", kw_only=True):
    """Base of what the server sends."""


class Ready(ServerFrame, tag="ready"):
    session_id: str
    user_id: str
    server_time: str
    epoch: str


class Pong(ServerFrame, tag="pong"):
    pass


class Ack(ServerFrame, tag="ack"):
    ref: str
    data: Any


class FieldProblem(msgspec.Struct):
    field: str
    problem: str


class Error(ServerFrame, tag="error"):
    ref: str | None
    code: str
    detail: str
    retryable: bool
    errors: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET
    retry_after: int | msgspec.UnsetType = msgspec.UNSET


class NewMessage(ServerFrame, tag="message"):
    message: Message


class MessageChanged(ServerFrame, tag="message.changed"):
    message: Message


class MessageHidden(ServerFrame, tag="message.hidden"):
    chat_id: str
    message_id: str


class ChatState(ServerFrame, tag="chat"):
    chat: Chat


class ChatGone(ServerFrame, tag="chat.gone"):
    chat_id: str


class MemberState(ServerFrame, tag="member"):
    chat_id: str
    member: Member


class ReadMark(ServerFrame, tag="read"):
    chat_id: str
    user_id: str
    seq: int


class DeliveredMark(ServerFrame, tag="delivered"):
    chat_id: str
    user_id: str
    seq: int


class SomebodyTypes(ServerFrame, tag="typing"):
    chat_id: str
    user_id: str


class PresenceState(ServerFrame, tag="presence"):
    user_id: str
    online: bool
    last_seen_at: str | None


class TransferState(ServerFrame, tag="transfer"):
    transfer: dict[str, Any]


class UploadState(ServerFrame, tag="upload"):
    id: str
    received_bytes: int
    state: str


class Update(ServerFrame, tag="update"):
    release: dict[str, Any]


class Resync(ServerFrame, tag="resync"):
    pass


SERVER_FRAMES: tuple[type[ServerFrame], ...] = (
    Ready, Pong, Ack, Error, NewMessage, MessageChanged, MessageHidden, ChatState, ChatGone, MemberState,
    ReadMark, DeliveredMark, SomebodyTypes, PresenceState, TransferState, UploadState, Update, Resync,
)

CLOSE_CODES: dict[int, str] = {
    wire.TOKEN_EXPIRED: "the token had expired when the socket opened: refresh, connect again",
    wire.TOO_SLOW: "the client did not read fast enough: connect again, sync",
    wire.STOPPING: "the server stops: connect again, after a random delay",
    wire.TOO_MANY: "too many frames, or too many sockets of one session or person",
    wire.BAD_FRAME: "not a JSON object with a type, not UTF-8, or a binary frame",
    wire.NOT_ALLOWED: "no token, or not a valid one",
    wire.SESSION_ENDED: "the session has ended: sign in again",
    1009: "the frame is too large",
    wire.SERVER_FAILED: "the server failed while the socket opened: connect again later",
}


def websocket_document(path: str) -> dict[str, Any]:
    """The entry of `path` under `x-websockets`: JSON Schemas of all frames, with references inside it."""
    escaped = path.replace("~", "~0").replace("/", "~1")
    kinds = (*wire.CLIENT_FRAMES, *SERVER_FRAMES)
    _, components = msgspec.json.schema_components(
        kinds, ref_template=f"#/x-websockets/{escaped}/components/{{name}}")

    def by_type(frames: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
        refs, _ = msgspec.json.schema_components(
            frames, ref_template=f"#/x-websockets/{escaped}/components/{{name}}")
        return {str(frame.__struct_config__.tag): ref for frame, ref in zip(frames, refs, strict=True)}

    return {
        "summary": "Live events and commands: one JSON object a text frame.",
        "authentication": "the Authorization header, or an auth frame within 10 s",
        "max_frame_bytes": wire.MAX_FRAME_BYTES,
        "from_client": by_type(wire.CLIENT_FRAMES),
        "from_server": by_type(SERVER_FRAMES),
        "close_codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
        "components": components,
    }
