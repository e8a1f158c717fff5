"""The frames of `/api/v1/ws` that are about chats, as calls of the same service as HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hypersend_server.chats.service import ChatService
from hypersend_server.http import Caller
from hypersend_server.realtime import wire

Command = Callable[[Caller, Any], Awaitable[Any]]


def commands(service: ChatService) -> Mapping[type[wire.ClientFrame], Command]:
    """Frame type → what answers it; the answer is the ack's `data`: JSON as bytes, or None."""

    async def send(caller: Caller, frame: wire.MessageSend) -> bytes:
        # Whoever asks for an answer learns of the message by that.
        raw, _ = await service.post(caller.user_id, frame.chat_id, frame, _told(caller, frame))
        return raw

    async def edit(caller: Caller, frame: wire.MessageEdit) -> bytes:
        return await service.edit(caller.user_id, frame.chat_id, frame.message_id, frame.text, _told(caller, frame))

    async def delete(caller: Caller, frame: wire.MessageDelete) -> bytes | None:
        if frame.for_ == "everyone":
            return await service.delete_for_everyone(
                caller.user_id, frame.chat_id, frame.message_id, _told(caller, frame)
            )
        await service.delete_for_me(caller.user_id, frame.chat_id, frame.message_id)
        return None

    async def reaction_set(caller: Caller, frame: wire.ReactionSet) -> bytes:
        return await service.react(
            caller.user_id, frame.chat_id, frame.message_id, frame.emoji, True, _told(caller, frame)
        )

    async def reaction_unset(caller: Caller, frame: wire.ReactionUnset) -> bytes:
        return await service.react(
            caller.user_id, frame.chat_id, frame.message_id, frame.emoji, False, _told(caller, frame)
        )

    async def read(caller: Caller, frame: wire.Read) -> None:
        await service.read(caller.user_id, frame.chat_id, frame.seq, until_written=frame.ref is not None)

    async def delivered(caller: Caller, frame: wire.Delivered) -> None:
        await service.delivered(caller.user_id, frame.chat_id, frame.seq, until_written=frame.ref is not None)

    async def typing(caller: Caller, frame: wire.Typing) -> None:
        await service.typing(caller.user_id, frame.chat_id, caller.session_id)

    return {
        wire.MessageSend: send,
        wire.MessageEdit: edit,
        wire.MessageDelete: delete,
        wire.ReactionSet: reaction_set,
        wire.ReactionUnset: reaction_unset,
        wire.Read: read,
        wire.Delivered: delivered,
        wire.Typing: typing,
    }


def _told(caller: Caller, frame: wire.ClientFrame) -> str | None:
    """The session that the ack tells; a frame without `ref` gets none, so its session hears with all
    others."""
    return caller.session_id if frame.ref is not None else None
