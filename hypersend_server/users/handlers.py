"""/api/v1/users over HTTP."""

from __future__ import annotations

from aiohttp import web

from hypersend_server.http import Call, Route, json_reply, no_content, read_body
from hypersend_server.resources import Items, Me, Page, User
from hypersend_server.users.service import UserService
from hypersend_server.users.types import Deleted, DeleteMe, PatchMe, StorageUse, UserSearch

MAX_AVATAR_BYTES = 2 * 1024 * 1024


def routes(service: UserService) -> list[Route]:
    async def get_me(call: Call) -> web.StreamResponse:
        return json_reply(await service.me(call.caller.user_id))

    async def patch_me(call: Call) -> web.StreamResponse:
        return json_reply(await service.update_me(call.caller.user_id, call.body))

    async def delete_me(call: Call) -> web.StreamResponse:
        return json_reply(await service.delete_me(call.caller.user_id, call.body.password))

    async def put_avatar(call: Call) -> web.StreamResponse:
        data = await read_body(call.request, MAX_AVATAR_BYTES)
        return json_reply(await service.set_avatar(call.caller.user_id, data))

    async def delete_avatar(call: Call) -> web.StreamResponse:
        await service.remove_avatar(call.caller.user_id)
        return no_content()

    async def storage(call: Call) -> web.StreamResponse:
        return json_reply(await service.storage(call.caller.user_id))

    async def search(call: Call) -> web.StreamResponse:
        query = call.query
        return json_reply(await service.search(call.caller.user_id, query.q, query.cursor, query.limit))

    async def get_user(call: Call) -> web.StreamResponse:
        return json_reply(await service.get(call.caller.user_id, call.path("user_id")))

    async def list_blocks(call: Call) -> web.StreamResponse:
        return json_reply(await service.blocks(call.caller.user_id, call.query.cursor, call.query.limit))

    async def block(call: Call) -> web.StreamResponse:
        await service.block(call.caller.user_id, call.path("user_id"))
        return no_content()

    async def unblock(call: Call) -> web.StreamResponse:
        await service.unblock(call.caller.user_id, call.path("user_id"))
        return no_content()

    users, tag = "/api/v1/users", "users"
    return [
        Route(method="GET", path=f"{users}/me", handler=get_me, tag=tag, summary="Oneself.", replies={200: Me}),
        Route(
            method="PATCH",
            path=f"{users}/me",
            handler=patch_me,
            tag=tag,
            body=PatchMe,
            summary="Change one's name and text.",
            replies={200: Me},
        ),
        Route(
            method="DELETE",
            path=f"{users}/me",
            handler=delete_me,
            tag=tag,
            body=DeleteMe,
            summary="End one's account: own files go, group messages stay without a sender.",
            replies={200: Deleted},
            errors=("password_wrong", "last_admin", "rate_limited", "busy"),
        ),
        Route(
            method="PUT",
            path=f"{users}/me/avatar",
            handler=put_avatar,
            tag=tag,
            summary="Set one's picture: at most 2 MiB, judged by its content.",
            accepts=("image/png", "image/jpeg", "image/webp", "image/gif"),
            replies={200: Me},
            errors=("picture_invalid", "body_too_large", "busy", "request_timeout"),
        ),
        Route(
            method="DELETE",
            path=f"{users}/me/avatar",
            handler=delete_avatar,
            tag=tag,
            summary="Take one's picture away.",
            replies={204: None},
        ),
        Route(
            method="GET",
            path=f"{users}/me/storage",
            handler=storage,
            tag=tag,
            summary="What one's files take, and may take.",
            replies={200: StorageUse},
        ),
        Route(
            method="GET",
            path=f"{users}/me/blocks",
            handler=list_blocks,
            tag=tag,
            query=Page,
            summary="Whom one blocks.",
            replies={200: Items[User]},
            errors=("cursor_invalid",),
        ),
        Route(
            method="PUT",
            path=f"{users}/me/blocks/{{user_id}}",
            handler=block,
            tag=tag,
            summary="Block someone: no direct messages or transfers from them, and no presence either way.",
            replies={204: None},
            errors=("not_found", "validation_failed"),
        ),
        Route(
            method="DELETE",
            path=f"{users}/me/blocks/{{user_id}}",
            handler=unblock,
            tag=tag,
            summary="Stop blocking someone.",
            replies={204: None},
        ),
        Route(
            method="GET",
            path=users,
            handler=search,
            tag=tag,
            query=UserSearch,
            summary="Find people: username or display name by prefix, e-mail only whole.",
            replies={200: Items[User]},
            errors=("cursor_invalid",),
        ),
        Route(
            method="GET",
            path=f"{users}/{{user_id}}",
            handler=get_user,
            tag=tag,
            summary="Someone.",
            replies={200: User},
            errors=("not_found",),
        ),
    ]
