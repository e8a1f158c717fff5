"""/api/v1/admin over HTTP."""

from __future__ import annotations

from aiohttp import web

from hypersend_server.http import Call, Handler, Route, json_reply, no_content
from hypersend_server.resources import Items, Page
from hypersend_server.users.admin import AdminService
from hypersend_server.users.types import (
    AdminUser,
    AuditItem,
    Deleted,
    Invite,
    NewInvite,
    PatchUser,
    ServerStats,
)


def routes(service: AdminService) -> list[Route]:
    async def list_users(call: Call) -> web.StreamResponse:
        return json_reply(await service.list_users(call.query.cursor, call.query.limit))

    async def patch_user(call: Call) -> web.StreamResponse:
        return json_reply(await service.patch_user(call.caller.user_id, call.path("user_id"), call.body))

    async def delete_user(call: Call) -> web.StreamResponse:
        return json_reply(await service.delete_user(call.caller.user_id, call.path("user_id")))

    async def add_invite(call: Call) -> web.StreamResponse:
        return json_reply(await service.add_invite(call.caller.user_id, call.body), 201)

    async def list_invites(call: Call) -> web.StreamResponse:
        return json_reply(await service.list_invites(call.query.cursor, call.query.limit))

    async def delete_invite(call: Call) -> web.StreamResponse:
        await service.delete_invite(call.caller.user_id, call.path("invite_id"))
        return no_content()

    async def stats(call: Call) -> web.StreamResponse:
        return json_reply(await service.stats())

    async def audit(call: Call) -> web.StreamResponse:
        return json_reply(await service.audit(call.query.cursor, call.query.limit))

    def listed(path: str, handler: Handler, summary: str, item: object) -> Route:
        return Route(
            method="GET",
            path=f"/api/v1/admin/{path}",
            handler=handler,
            tag="admin",
            auth="admin",
            query=Page,
            summary=summary,
            replies={200: item},
            errors=("cursor_invalid",),
        )

    return [
        listed("users", list_users, "Everybody with an account.", Items[AdminUser]),
        Route(
            method="PATCH",
            path="/api/v1/admin/users/{user_id}",
            handler=patch_user,
            tag="admin",
            auth="admin",
            body=PatchUser,
            summary="Disable someone, make them an administrator, set their quota.",
            replies={200: AdminUser},
            errors=("not_found", "last_admin"),
        ),
        Route(
            method="DELETE",
            path="/api/v1/admin/users/{user_id}",
            handler=delete_user,
            tag="admin",
            auth="admin",
            summary="End someone's account.",
            replies={200: Deleted},
            errors=("not_found", "last_admin"),
        ),
        Route(
            method="POST",
            path="/api/v1/admin/invites",
            handler=add_invite,
            tag="admin",
            auth="admin",
            body=NewInvite,
            body_optional=True,
            summary="Make an invite; its code is shown this once.",
            replies={201: Invite},
        ),
        listed("invites", list_invites, "Invites, newest first.", Items[Invite]),
        Route(
            method="DELETE",
            path="/api/v1/admin/invites/{invite_id}",
            handler=delete_invite,
            tag="admin",
            auth="admin",
            summary="Take an invite back.",
            replies={204: None},
            errors=("not_found",),
        ),
        Route(
            method="GET",
            path="/api/v1/admin/stats",
            handler=stats,
            tag="admin",
            auth="admin",
            summary="How much of everything there is.",
            replies={200: ServerStats},
        ),
        listed("audit", audit, "What administrators did, newest first.", Items[AuditItem]),
    ]
