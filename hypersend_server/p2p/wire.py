"""The frames of `/api/v1/p2p/sender/{id}` and `/api/v1/p2p/receiver/{id}`. No I/O.

Two devices meet in the relay, which passes frames from one to the other in order and keeps none. Binary frames are
the file, sealed by the ends, and the relay cannot read them; text frames are JSON objects of at most 16 KiB, and but
for `auth` they are passed on to the other end as they came. What an end sends while the other is not there is dropped.

From an end
    auth     token                 first frame, within 10 s, where no header brought a token
    hello    round key cipher?     of the sender: its ephemeral key of this meeting
    ready    round key offset cipher?   of the receiver: its ephemeral key, and how much it has verified
    ack      offset                of the receiver: so much is verified and on its disk
    done                           of the receiver: the whole file is there, and its digest is right
    fail     code                  it cannot be finished: tampered, source_changed, wrong_size, corrupt_transfer
    cancel                         this end does not want it any more

From the relay
    joined   role transfer         always the first frame
    peer     present round|null    whether the other end is there. With true a new round begins: both make new keys,
                                   and whatever belongs to another round is to be ignored

Binary frames, at most 65,600 bytes and at least 1: see `docs/protocol.md` for what is inside them.

Close codes (4000-4499: connect again; 4500-4999: do not)
    1000                       the transfer is over as it should be
    4001 TOKEN_EXPIRED         refresh, connect again
    4008 TOO_SLOW              this end took nothing for a minute: connect again
    4012 STOPPING              the server stops: connect again, after a random delay
    4500 BAD_FRAME             a frame that is not one of these, too large, or not for this end to send
    4501 NOT_ALLOWED           no token, or not this device's transfer
    4503 SESSION_ENDED         sign in again
    4510 REPLACED              a newer socket of the same end is here
    4511 OVER                  the transfer is over: the reason is its status
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

TOKEN_EXPIRED = 4001
TOO_SLOW = 4008
STOPPING = 4012
BAD_FRAME = 4500
NOT_ALLOWED = 4501
SESSION_ENDED = 4503
REPLACED = 4510
OVER = 4511

MAX_BINARY_BYTES = 64 * 1024 + 64
MAX_TEXT_BYTES = 16 * 1024

Role = Literal["sender", "receiver"]
ROLES: tuple[Role, ...] = ("sender", "receiver")

Key = Annotated[str, Meta(min_length=43, max_length=43, pattern="^[A-Za-z0-9_-]{43}$")]
Round = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Offset = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Cipher = Literal["aes-256-gcm", "chacha20-poly1305"]  # what is fast on that device


class Frame(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base of what an end sends as text."""


class Auth(Frame, tag="auth", frozen=True):
    token: Annotated[str, Meta(min_length=1, max_length=4096)]

    def __repr__(self) -> str:
        return "Auth(token=…)"


class Hello(Frame, tag="hello", frozen=True):
    round: Round
    key: Key
    cipher: Cipher = "aes-256-gcm"


class Ready(Frame, tag="ready", frozen=True):
    round: Round
    key: Key
    offset: Offset
    cipher: Cipher = "aes-256-gcm"


class Ack(Frame, tag="ack", frozen=True):
    offset: Offset


class Done(Frame, tag="done", frozen=True):
    pass


class Fail(Frame, tag="fail", frozen=True):
    code: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-z_]+$")]


class Cancel(Frame, tag="cancel", frozen=True):
    pass


AnyFrame = Auth | Hello | Ready | Ack | Done | Fail | Cancel
END_FRAMES: tuple[type[Frame], ...] = (Auth, Hello, Ready, Ack, Done, Fail, Cancel)
_ONLY: dict[type[Frame], Role] = {Hello: "sender", Ready: "receiver", Ack: "receiver", Done: "receiver"}

_decode: Callable[[bytes | str], AnyFrame] = msgspec.json.Decoder(AnyFrame).decode
_encode = msgspec.json.Encoder().encode


class BadFrame(Exception):
    """The socket is to be closed with BAD_FRAME; the text says why."""


def parse(data: bytes | str, role: Role) -> AnyFrame:
    """A text frame of this end. Raises: BadFrame, and nothing else."""
    if len(data) > MAX_TEXT_BYTES:
        raise BadFrame("a text frame is larger than 16 KiB")
    try:
        frame = _decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BadFrame("not a frame that is known here") from None
    if _ONLY.get(type(frame), role) != role:
        raise BadFrame("not for this end to send")
    return frame


def joined(role: Role, transfer: Any) -> str:
    return _encode({"type": "joined", "role": role, "transfer": transfer}).decode()


def peer(round_: int | None) -> str:
    """round_: of the meeting that begins, or None where the other end is not there."""
    return _encode({"type": "peer", "present": round_ is not None, "round": round_}).decode()
