"""The calls about chats: parse, ask the service, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from hypersend_server.chats.service import ChatService
from hypersend_server.chats.types import (
    ChatPatch,
    ChatsQuery,
    DeleteQuery,
    FoundMessage,
    MarkBody,
    Messages,
    MessagesQuery,
    NewChat,
    NewMembers,
    NewMessage,
    OwnPatch,
    RolePatch,
    SearchQuery,
    SyncAnswer,
    SyncBody,
    TextPatch,
)
from hypersend_server.errors import HyperSendError
from hypersend_server.http import Call, Route, json_reply, no_content, read_body
from hypersend_server.resources import Chat, Items, Member, Message, Page

MAX_AVATAR_BYTES = 2 * 1024 * 1024
_WRITE = ("not_found", "not_allowed", "blocked", "message_deleted", "rate_limited")

Reencode = Callable[[bytes], Awaitable[tuple[str, bytes]]]
"""A picture from outside → (mime, data) fit to be shown. Raises: `picture_invalid`, `busy`."""


def routes(service: ChatService, reencode: Reencode) -> list[Route]:
    groups = service.groups

    async def list_chats(call: Call) -> web.StreamResponse:
        return json_reply(await groups.list_chats(call.caller.user_id, call.query))

    async def create_chat(call: Call) -> web.StreamResponse:
        chat, created = await groups.create(call.caller.user_id, call.body)
        return json_reply(chat, 201 if created else 200)

    async def get_chat(call: Call) -> web.StreamResponse:
        return json_reply(await groups.get(call.caller.user_id, _id(call, "chat_id")))

    async def patch_chat(call: Call) -> web.StreamResponse:
        return json_reply(await groups.update(call.caller.user_id, _id(call, "chat_id"), call.body))

    async def delete_chat(call: Call) -> web.StreamResponse:
        await groups.delete(call.caller.user_id, _id(call, "chat_id"))
        return no_content()

    async def put_avatar(call: Call) -> web.StreamResponse:
        user_id, chat_id = call.caller.user_id, _id(call, "chat_id")
        await groups.require_editor(user_id, chat_id)
        picture = await reencode(await read_body(call.request, MAX_AVATAR_BYTES))
        return json_reply(await groups.set_avatar(user_id, chat_id, picture))

    async def delete_avatar(call: Call) -> web.StreamResponse:
        await groups.set_avatar(call.caller.user_id, _id(call, "chat_id"), None)
        return no_content()

    async def patch_me(call: Call) -> web.StreamResponse:
        return json_reply(await groups.set_own(call.caller.user_id, _id(call, "chat_id"), call.body))

    async def list_members(call: Call) -> web.StreamResponse:
        return json_reply(await groups.list_members(call.caller.user_id, _id(call, "chat_id"), call.query))

    async def add_members(call: Call) -> web.StreamResponse:
        return json_reply(await groups.add_members(call.caller.user_id, _id(call, "chat_id"), call.body.user_ids), 201)

    async def patch_member(call: Call) -> web.StreamResponse:
        return json_reply(
            await groups.set_role(call.caller.user_id, _id(call, "chat_id"), _id(call, "user_id"), call.body.role)
        )

    async def remove_member(call: Call) -> web.StreamResponse:
        await groups.remove_member(call.caller.user_id, _id(call, "chat_id"), _id(call, "user_id"))
        return no_content()

    async def list_messages(call: Call) -> web.StreamResponse:
        return json_reply(await service.messages(call.caller.user_id, _id(call, "chat_id"), call.query))

    async def post_message(call: Call) -> web.StreamResponse:
        raw, created = await service.post(call.caller.user_id, _id(call, "chat_id"), call.body)
        return _json(raw, 201 if created else 200)

    async def get_message(call: Call) -> web.StreamResponse:
        return json_reply(await service.message(call.caller.user_id, _id(call, "chat_id"), _id(call, "message_id")))

    async def patch_message(call: Call) -> web.StreamResponse:
        return _json(
            await service.edit(call.caller.user_id, _id(call, "chat_id"), _id(call, "message_id"), call.body.text)
        )

    async def delete_message(call: Call) -> web.StreamResponse:
        where = call.caller.user_id, _id(call, "chat_id"), _id(call, "message_id")
        if call.query.scope == "everyone":
            await service.delete_for_everyone(*where)
        else:
            await service.delete_for_me(*where)
        return no_content()

    async def set_reaction(call: Call) -> web.StreamResponse:
        return await _react(call, True)

    async def unset_reaction(call: Call) -> web.StreamResponse:
        return await _react(call, False)

    async def _react(call: Call, present: bool) -> web.StreamResponse:
        return _json(
            await service.react(
                call.caller.user_id,
                _id(call, "chat_id"),
                _id(call, "message_id"),
                call.path("emoji"),
                present,
            )
        )

    async def read(call: Call) -> web.StreamResponse:
        await service.read(call.caller.user_id, _id(call, "chat_id"), call.body.seq)
        return no_content()

    async def delivered(call: Call) -> web.StreamResponse:
        await service.delivered(call.caller.user_id, _id(call, "chat_id"), call.body.seq)
        return no_content()

    async def sync(call: Call) -> web.StreamResponse:
        return json_reply(await service.sync(call.caller.user_id, call.body.token, call.body.limit))

    async def search(call: Call) -> web.StreamResponse:
        return json_reply(await service.search(call.caller.user_id, call.query))

    chats, chat = "/api/v1/chats", "/api/v1/chats/{chat_id}"
    member, message = f"{chat}/members/{{user_id}}", f"{chat}/messages/{{message_id}}"
    reaction = f"{message}/reactions/{{emoji}}"
    tag = "Chats"
    return [
        Route(
            method="GET",
            path=chats,
            handler=list_chats,
            summary="One's chats, pinned first, then by newest message",
            tag=tag,
            query=ChatsQuery,
            replies={200: Items[Chat]},
            errors=("cursor_invalid",),
        ),
        Route(
            method="POST",
            path=chats,
            handler=create_chat,
            summary="Begin a direct chat or a group",
            tag=tag,
            body=NewChat,
            replies={201: Chat, 200: Chat},
            errors=("not_found", "blocked", "chat_full"),
        ),
        Route(
            method="GET",
            path=chat,
            handler=get_chat,
            summary="A chat as one sees it",
            tag=tag,
            replies={200: Chat},
            errors=("not_found",),
        ),
        Route(
            method="PATCH",
            path=chat,
            handler=patch_chat,
            summary="Title and description of a group",
            tag=tag,
            body=ChatPatch,
            replies={200: Chat},
            errors=("not_found", "not_allowed"),
        ),
        Route(
            method="DELETE",
            path=chat,
            handler=delete_chat,
            tag=tag,
            summary="End a group (its owner's), or leave one's own side of a direct chat",
            replies={204: None},
            errors=("not_found", "not_allowed"),
        ),
        Route(
            method="PUT",
            path=f"{chat}/avatar",
            handler=put_avatar,
            summary="A group's picture",
            tag=tag,
            accepts=("image/png", "image/jpeg", "image/webp", "image/gif"),
            replies={200: Chat},
            errors=("not_found", "not_allowed", "picture_invalid", "body_too_large", "busy"),
        ),
        Route(
            method="DELETE",
            path=f"{chat}/avatar",
            handler=delete_avatar,
            summary="Take a group's picture away",
            tag=tag,
            replies={204: None},
            errors=("not_found", "not_allowed"),
        ),
        Route(
            method="PATCH",
            path=f"{chat}/me",
            handler=patch_me,
            summary="Pin, archive or mute for oneself",
            tag=tag,
            body=OwnPatch,
            replies={200: Chat},
            errors=("not_found",),
        ),
        Route(
            method="GET",
            path=f"{chat}/members",
            handler=list_members,
            summary="Who is in the chat",
            tag=tag,
            query=Page,
            replies={200: Items[Member]},
            errors=("not_found", "cursor_invalid"),
        ),
        Route(
            method="POST",
            path=f"{chat}/members",
            handler=add_members,
            summary="Add people to a group",
            tag=tag,
            body=NewMembers,
            replies={201: Items[Member]},
            errors=("not_found", "not_allowed", "chat_full"),
        ),
        Route(
            method="PATCH",
            path=member,
            handler=patch_member,
            summary="Change a member's role",
            tag=tag,
            body=RolePatch,
            replies={200: Member},
            errors=("not_found", "not_allowed", "owner_required"),
        ),
        Route(
            method="DELETE",
            path=member,
            handler=remove_member,
            summary="Remove a member, or leave",
            tag=tag,
            replies={204: None},
            errors=("not_found", "not_allowed"),
        ),
        Route(
            method="GET",
            path=f"{chat}/messages",
            handler=list_messages,
            tag=tag,
            query=MessagesQuery,
            summary="Messages, ascending by seq; the newest without a bound; by rev with after_rev",
            replies={200: Messages},
            errors=("not_found",),
        ),
        Route(
            method="POST",
            path=f"{chat}/messages",
            handler=post_message,
            summary="Send a message",
            tag=tag,
            body=NewMessage,
            replies={201: Message, 200: Message},
            errors=(*_WRITE, "upload_incomplete"),
        ),
        Route(
            method="GET",
            path=message,
            handler=get_message,
            summary="One message",
            tag=tag,
            replies={200: Message},
            errors=("not_found",),
        ),
        Route(
            method="PATCH",
            path=message,
            handler=patch_message,
            summary="Edit one's own message",
            tag=tag,
            body=TextPatch,
            replies={200: Message},
            errors=_WRITE,
        ),
        Route(
            method="DELETE",
            path=message,
            handler=delete_message,
            tag=tag,
            query=DeleteQuery,
            summary="Delete a message for oneself, or for everyone",
            replies={204: None},
            errors=_WRITE,
        ),
        Route(
            method="PUT",
            path=reaction,
            handler=set_reaction,
            summary="React with an emoji, at most three each",
            tag=tag,
            replies={200: Message},
            errors=(*_WRITE, "reaction_limit"),
        ),
        Route(
            method="DELETE",
            path=reaction,
            handler=unset_reaction,
            summary="Take a reaction back",
            tag=tag,
            replies={200: Message},
            errors=_WRITE,
        ),
        Route(
            method="POST",
            path=f"{chat}/read",
            handler=read,
            summary="All up to seq was read; answered when it is written, within a second",
            tag=tag,
            body=MarkBody,
            replies={204: None},
            errors=("not_found",),
        ),
        Route(
            method="POST",
            path=f"{chat}/delivered",
            handler=delivered,
            tag=tag,
            summary="All up to seq has arrived on a device; answered when it is written, within a second",
            body=MarkBody,
            replies={204: None},
            errors=("not_found",),
        ),
        Route(
            method="POST",
            path="/api/v1/sync",
            handler=sync,
            tag=tag,
            body=SyncBody,
            body_optional=True,
            summary="What changed since a token",
            changes=False,
            replies={200: SyncAnswer},
            errors=("cursor_invalid",),
        ),
        Route(
            method="GET",
            path="/api/v1/search",
            handler=search,
            summary="Search in one's own messages",
            tag=tag,
            query=SearchQuery,
            replies={200: Items[FoundMessage]},
            errors=("not_found", "cursor_invalid"),
        ),
    ]


def _id(call: Call, name: str) -> str:
    """An id from the path. Raises: `not_found` for what no id of ours can be."""
    value = call.path(name)
    if not value.isascii() or not value.isalnum() or len(value) > 64:
        raise HyperSendError("not_found")
    return value


def _json(raw: bytes, status: int = 200) -> web.Response:
    return web.Response(body=raw, status=status, content_type="application/json")
