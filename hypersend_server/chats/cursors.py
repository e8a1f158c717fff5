"""Cursors and sync tokens: positions as opaque text. Not sealed: a made-up one shows its maker nothing
new."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import ChatPosition, KnownChat, SyncPosition
from hypersend_server.signer import b64, unb64

T = TypeVar("T")
Number = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(max_length=64)]

_encode = msgspec.msgpack.Encoder().encode


class _Sync(msgspec.Struct, array_like=True):
    epoch: Name
    user_id: Name
    at: Number
    since: Number
    upto: Number
    reset: tuple[Name, ...]
    known: tuple[tuple[Name, Number, Number], ...] = ()
    coming: tuple[tuple[Name, Number, Number], ...] = ()


class _Chat(msgspec.Struct, array_like=True):
    pinned: bool
    updated_at: Number
    chat_id: Name


def _decode(text: str, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(unb64(text), type=kind)
    except (ValueError, msgspec.MsgspecError):
        raise HyperSendError("cursor_invalid") from None


def encode(position: Any) -> str:
    return b64(_encode(position))


def sync_position(token: str | None, user_id: str) -> SyncPosition:
    """Raises: `cursor_invalid`, also for another person's token; the client then syncs without one."""
    if token is None:
        return SyncPosition("", user_id, 0)
    found = _decode(token, _Sync)
    in_order = found.since <= found.at <= found.upto if found.upto else found.since == 0
    if found.user_id != user_id or not in_order:
        raise HyperSendError("cursor_invalid")
    known, coming = (tuple(KnownChat(*chat) for chat in chats) for chats in (found.known, found.coming))
    return SyncPosition(
        found.epoch, found.user_id, found.at, found.since, found.upto, found.reset, known, coming)


def chat_position(cursor: str | None) -> ChatPosition | None:
    if cursor is None:
        return None
    found = _decode(cursor, _Chat)
    return ChatPosition(found.pinned, found.updated_at, found.chat_id)


def user_position(cursor: str | None) -> str:
    return "" if cursor is None else str(_decode(cursor, Name))


def number_position(cursor: str | None) -> int | None:
    return None if cursor is None else int(_decode(cursor, Number))
