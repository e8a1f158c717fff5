"""The frames of `/api/v1/ws`: bytes in, typed frames or a documented refusal out. No I/O.

One JSON object a text frame, UTF-8, at most 256 KiB (MAX_FRAME_BYTES), no compression. `ref` (1–64
characters, any frame from the client may have one) comes back in the `ack` or `error` that answers the frame;
a frame without one is answered only where it is refused. Absent and null mean the same. Clients ignore types
that they do not know.

From the client
    auth            token                         first frame, within 10 s, where no header brought a token
    ping                                          answered with pong
    message.send    chat_id client_id text? file_ids? reply_to? mentions? forward?{chat_id message_id}
                                                                      ack: Message
    message.edit    chat_id message_id text                           ack: Message
    message.delete  chat_id message_id for?(me|everyone)              ack: null for `me` (default), or Message
    reaction.set    chat_id message_id emoji                          ack: Message
    reaction.unset  chat_id message_id emoji                          ack: Message
    read            chat_id seq                   all up to seq was read
    delivered       chat_id seq                   all up to seq has arrived on a device
    typing          chat_id                       repeat every few seconds while it goes on
    presence.watch  user_ids                      replaces what this socket watched before; [] ends it

From the server
    ready           session_id user_id server_time epoch              signed in; always the first frame
    pong
    ack             ref data                      the frame with this ref is done (a message: stored)
    error           ref|null code detail retryable errors?[{field problem}] retry_after?(s)
    message         message                       a new one
    message.changed message                       edited, deleted for everyone, reactions, or its file is gone
    message.hidden  chat_id message_id            deleted for me, on one of my devices
    chat            chat                          as I see it now; also a chat that is new to me
    chat.gone       chat_id                       I have no access any more
    member          chat_id member
    read            chat_id user_id seq
    delivered       chat_id user_id seq
    typing          chat_id user_id
    presence        user_id online last_seen_at|null
    transfer        transfer
    upload          id received_bytes state
    update          release
    resync                                        something may have been missed: call /sync

Close codes (4000–4499: connect again; 4500–4999: do not)
    4001 TOKEN_EXPIRED   the token had expired when the socket opened: refresh, connect again
    4008 TOO_SLOW        the client did not read fast enough: connect again, sync
    4012 STOPPING        the server stops: connect again, after a random delay
    4029 TOO_MANY        too many frames (100/s, bursts of 2,000), or the session opened 16 newer sockets, or
                         the person 128
    4500 BAD_FRAME       not a JSON object with a `type`, not UTF-8, or a binary frame
    4501 NOT_ALLOWED     no token, or not a valid one
    4503 SESSION_ENDED   sign in again
    1009                 the frame is larger than 256 KiB (some stacks see a reset connection instead)
    1011                 the server failed while the socket opened: connect again later
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hypersend_server.clock import rfc3339, rfc3339_or_none
from hypersend_server.errors import HyperSendError, from_msgspec
from hypersend_server.resources import ClientId, Id, MessageText

TOKEN_EXPIRED = 4001
TOO_SLOW = 4008
STOPPING = 4012
TOO_MANY = 4029
BAD_FRAME = 4500
NOT_ALLOWED = 4501
SESSION_ENDED = 4503
SERVER_FAILED = 1011

MAX_FRAME_BYTES = 256 * 1024  # 8,000 characters are 96,000 bytes where a client escapes each as \uXXXX
MAX_REF_LENGTH = 64

Ref = Annotated[str, Meta(min_length=1, max_length=MAX_REF_LENGTH)]
Emoji = Annotated[str, Meta(min_length=1, max_length=32)]
Seq = Annotated[int, Meta(ge=0, le=2**53 - 1)]
FileIds = Annotated[list[Id], Meta(max_length=10)]
Mentions = Annotated[list[Id], Meta(max_length=50)]
Watched = Annotated[list[Id], Meta(max_length=200)]


class ClientFrame(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Base of what clients send; unknown fields are refused."""

    ref: Ref | None = None


class Auth(ClientFrame, tag="auth", frozen=True):
    token: Annotated[str, Meta(min_length=1, max_length=4096)]

    def __repr__(self) -> str:
        return "Auth(token=…)"


class Ping(ClientFrame, tag="ping", frozen=True):
    pass


class ForwardOf(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    chat_id: Id
    message_id: Id


class MessageSend(ClientFrame, tag="message.send", frozen=True):
    chat_id: Id
    client_id: ClientId
    text: MessageText | None = None
    file_ids: FileIds | None = None
    reply_to: Id | None = None
    mentions: Mentions | None = None
    forward: ForwardOf | None = None


class MessageEdit(ClientFrame, tag="message.edit", frozen=True):
    chat_id: Id
    message_id: Id
    text: MessageText


class MessageDelete(ClientFrame, tag="message.delete", frozen=True):
    chat_id: Id
    message_id: Id
    for_: Literal["me", "everyone"] = msgspec.field(default="me", name="for")


class ReactionSet(ClientFrame, tag="reaction.set", frozen=True):
    chat_id: Id
    message_id: Id
    emoji: Emoji


class ReactionUnset(ClientFrame, tag="reaction.unset", frozen=True):
    chat_id: Id
    message_id: Id
    emoji: Emoji


class Read(ClientFrame, tag="read", frozen=True):
    chat_id: Id
    seq: Seq


class Delivered(ClientFrame, tag="delivered", frozen=True):
    chat_id: Id
    seq: Seq


class Typing(ClientFrame, tag="typing", frozen=True):
    chat_id: Id


class PresenceWatch(ClientFrame, tag="presence.watch", frozen=True):
    user_ids: Watched


AnyClientFrame = (
    Auth | Ping | MessageSend | MessageEdit | MessageDelete | ReactionSet | ReactionUnset | Read | Delivered
    | Typing | PresenceWatch
)
CLIENT_FRAMES: tuple[type[ClientFrame], ...] = (
    Auth, Ping, MessageSend, MessageEdit, MessageDelete, ReactionSet, ReactionUnset, Read, Delivered, Typing,
    PresenceWatch,
)


class BadFrame(Exception):
    """Nothing to answer: the socket closes with 4500. The text is the reason, at most 100 characters."""


class FrameRefused(Exception):
    """The frame gets an `error` with this ref; the socket stays.

    error: `validation_failed` (a known type with wrong fields) or `frame_invalid` (an unknown type).
    """

    def __init__(self, ref: str | None, error: HyperSendError) -> None:
        super().__init__(error.code)
        self.ref = ref
        self.error = error


class _Envelope(msgspec.Struct):
    """What any frame must be: an object with a type. ref is looked at only to answer."""

    type: str
    ref: Any = None


_decoder: msgspec.json.Decoder[AnyClientFrame] = msgspec.json.Decoder(AnyClientFrame)
_decode = _decoder.decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_encode = msgspec.json.Encoder().encode
_KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in CLIENT_FRAMES)


def parse(data: bytes) -> AnyClientFrame:
    """One frame from the client.

    Raises: BadFrame, FrameRefused; nothing else, whatever the bytes are.
    """
    try:
        return _decode(data)
    except msgspec.ValidationError as error:
        raise _refusal(data, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFrame("not JSON in UTF-8") from None


def _refusal(data: bytes, error: msgspec.ValidationError) -> BadFrame | FrameRefused:
    try:
        envelope = _decode_envelope(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BadFrame("not a JSON object with a type")
    ref = envelope.ref if isinstance(envelope.ref, str) and 1 <= len(envelope.ref) <= MAX_REF_LENGTH else None
    if envelope.type not in _KNOWN:
        return FrameRefused(ref, HyperSendError("frame_invalid", "Frames of this type are not known here."))
    return FrameRefused(ref, from_msgspec(error))


# Frames from the server, as the bytes of their JSON. What goes to many is encoded once, so a part of a frame
# may be JSON already.

Json = Any
"""bytes: JSON as it stands. Anything else is encoded (a resource, msgspec.Raw, None)."""


def _json(value: Json) -> bytes:
    return value if type(value) is bytes else _encode(value)


def ready(session_id: str, user_id: str, server_time: int, epoch: str) -> bytes:
    """server_time: Unix milliseconds."""
    return _encode({"type": "ready", "session_id": session_id, "user_id": user_id,
                    "server_time": rfc3339(server_time), "epoch": epoch})


PONG = b'{"type":"pong"}'
RESYNC = b'{"type":"resync"}'


def ack(ref: str, data: Json = None) -> bytes:
    return b'{"type":"ack","ref":%b,"data":%b}' % (_encode(ref), _json(data))


def error(ref: str | None, problem: HyperSendError) -> bytes:
    document: dict[str, Any] = {"type": "error", "ref": ref, "code": problem.code, "detail": problem.detail,
                                "retryable": problem.retryable}
    if problem.errors:
        document["errors"] = problem.errors
    if problem.retry_after_s is not None:
        document["retry_after"] = problem.retry_after_s
    return _encode(document)


def message(message: Json) -> bytes:
    return b'{"type":"message","message":%b}' % _json(message)


def message_changed(message: Json) -> bytes:
    return b'{"type":"message.changed","message":%b}' % _json(message)


def message_hidden(chat_id: str, message_id: str) -> bytes:
    return _encode({"type": "message.hidden", "chat_id": chat_id, "message_id": message_id})


def chat(chat: Json) -> bytes:
    return b'{"type":"chat","chat":%b}' % _json(chat)


def chat_gone(chat_id: str) -> bytes:
    return _encode({"type": "chat.gone", "chat_id": chat_id})


def member(chat_id: str, member: Json) -> bytes:
    return b'{"type":"member","chat_id":%b,"member":%b}' % (_encode(chat_id), _json(member))


def read(chat_id: str, user_id: str, seq: int) -> bytes:
    return _encode({"type": "read", "chat_id": chat_id, "user_id": user_id, "seq": seq})


def delivered(chat_id: str, user_id: str, seq: int) -> bytes:
    return _encode({"type": "delivered", "chat_id": chat_id, "user_id": user_id, "seq": seq})


def typing(chat_id: str, user_id: str) -> bytes:
    return _encode({"type": "typing", "chat_id": chat_id, "user_id": user_id})


def presence(user_id: str, online: bool, last_seen_at: int | None) -> bytes:
    """last_seen_at: Unix milliseconds, None where nobody knows."""
    return _encode({"type": "presence", "user_id": user_id, "online": online,
                    "last_seen_at": rfc3339_or_none(last_seen_at)})


def transfer(transfer: Json) -> bytes:
    return b'{"type":"transfer","transfer":%b}' % _json(transfer)


def upload(file_id: str, received_bytes: int, state: str, chat_id: str | None = None) -> bytes:
    """chat_id: of an upload that an upload ticket for this chat began, so that its maker's app can send it there."""
    frame = {"type": "upload", "id": file_id, "received_bytes": received_bytes, "state": state}
    return _encode(frame if chat_id is None else {**frame, "chat_id": chat_id})


def update(release: Json) -> bytes:
    return b'{"type":"update","release":%b}' % _json(release)
