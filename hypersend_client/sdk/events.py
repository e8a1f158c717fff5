"""What a server's WebSocket tells, as typed events, and what it may be told.

`parse(frame)` turns one server frame into an event. Frames of a kind that is not known, or that cannot be
read, become `Unknown`: a newer server does not break an older client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from hypersend_client.sdk.errors import HyperSendError
from hypersend_client.sdk.models import Chat, Member, Message, parse_time, text_of, whole_number

State = Literal["offline", "connecting", "online", "signed_out"]


class Event:
    """Base of all events."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """The connection's state. error: why it is not online, where that is known."""

    state: State
    error: HyperSendError | None = None


@dataclass(frozen=True, slots=True)
class Ready(Event):
    session_id: str
    user_id: str
    server_time: datetime | None
    epoch: str


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    message: Message


@dataclass(frozen=True, slots=True)
class MessageChanged(Event):
    """Edited, deleted, or with other reactions."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageHidden(Event):
    """Deleted for me, on another of my devices."""

    chat_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class ChatChanged(Event):
    chat: Chat


@dataclass(frozen=True, slots=True)
class ChatGone(Event):
    chat_id: str


@dataclass(frozen=True, slots=True)
class MemberChanged(Event):
    chat_id: str
    member: Member


@dataclass(frozen=True, slots=True)
class Read(Event):
    chat_id: str
    user_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Delivered(Event):
    chat_id: str
    user_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Typing(Event):
    chat_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class PresenceChanged(Event):
    user_id: str
    online: bool
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class UploadProgress(Event):
    """An upload of this person, on whatever device or page it runs.

    chat_id: set where an upload page sends it, and then the chat that the page was opened for.
    """

    file_id: str
    received_bytes: int
    state: str
    chat_id: str = ""


@dataclass(frozen=True, slots=True)
class TransferChanged(Event):
    transfer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpdateAvailable(Event):
    release: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resync(Event):
    """Something may have been missed."""


@dataclass(frozen=True, slots=True)
class Unknown(Event):
    frame: dict[str, Any]


def _text(frame: dict[str, Any], name: str) -> str:
    return text_of(frame[name])


def _number(frame: dict[str, Any], name: str) -> int:
    return whole_number(frame[name])


def _object(frame: dict[str, Any], name: str) -> dict[str, Any]:
    value = frame[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def _time(frame: dict[str, Any], name: str) -> datetime | None:
    value = frame.get(name)
    return None if value is None else parse_time(value)


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "ready": lambda f: Ready(
        _text(f, "session_id"), _text(f, "user_id"), _time(f, "server_time"), text_of(f.get("epoch") or "")
    ),
    "message": lambda f: MessageReceived(Message.from_json(f["message"])),
    "message.changed": lambda f: MessageChanged(Message.from_json(f["message"])),
    "message.hidden": lambda f: MessageHidden(_text(f, "chat_id"), _text(f, "message_id")),
    "chat": lambda f: ChatChanged(Chat.from_json(f["chat"])),
    "chat.gone": lambda f: ChatGone(_text(f, "chat_id")),
    "member": lambda f: MemberChanged(_text(f, "chat_id"), Member.from_json(f["member"])),
    "read": lambda f: Read(_text(f, "chat_id"), _text(f, "user_id"), _number(f, "seq")),
    "delivered": lambda f: Delivered(_text(f, "chat_id"), _text(f, "user_id"), _number(f, "seq")),
    "typing": lambda f: Typing(_text(f, "chat_id"), _text(f, "user_id")),
    "presence": lambda f: PresenceChanged(_text(f, "user_id"), f.get("online") is True, _time(f, "last_seen_at")),
    "upload": lambda f: UploadProgress(
        _text(f, "id"), _number(f, "received_bytes"), _text(f, "state"), text_of(f.get("chat_id") or "")
    ),
    "transfer": lambda f: TransferChanged(_object(f, "transfer")),
    "update": lambda f: UpdateAvailable(_object(f, "release")),
    "resync": lambda f: Resync(),
}


def parse(frame: dict[str, Any]) -> Event:
    """One server frame as an event; `pong`, `ack` and `error` are the connection's own and come as
    Unknown.
    """
    kind = frame.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return Unknown(frame)
    try:
        return reader(frame)
    except (KeyError, ValueError):
        return Unknown(frame)
