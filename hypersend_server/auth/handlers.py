"""/api/v1/auth over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from hypersend_server.auth.service import AuthService
from hypersend_server.auth.types import (
    ChangePassword,
    DeviceKey,
    Login,
    Refresh,
    Register,
    Reset,
    Session,
    SessionInfo,
)
from hypersend_server.client_address import client_address
from hypersend_server.http import Call, Handler, Route, json_reply, no_content
from hypersend_server.resources import Items, Page
from hypersend_server.settings import Network


def routes(service: AuthService, trusted_proxies: Sequence[Network]) -> list[Route]:
    def address(call: Call) -> str:
        return client_address(call.request, trusted_proxies)

    async def register(call: Call) -> web.StreamResponse:
        return json_reply(await service.register(call.body, address(call)), 201)

    async def login(call: Call) -> web.StreamResponse:
        return json_reply(await service.login(call.body, address(call)))

    async def refresh(call: Call) -> web.StreamResponse:
        return json_reply(await service.refresh(call.body.refresh_token, address(call)))

    async def logout(call: Call) -> web.StreamResponse:
        await service.logout(call.caller.user_id, call.caller.session_id)
        return no_content()

    async def list_sessions(call: Call) -> web.StreamResponse:
        caller = call.caller
        return json_reply(
            await service.list_sessions(caller.user_id, caller.session_id, call.query.cursor, call.query.limit)
        )

    async def end_session(call: Call) -> web.StreamResponse:
        await service.end_session(call.caller.user_id, call.path("session_id"))
        return no_content()

    async def change_password(call: Call) -> web.StreamResponse:
        await service.change_password(
            call.caller.user_id, call.caller.session_id, call.body.current_password, call.body.new_password
        )
        return no_content()

    async def reset(call: Call) -> web.StreamResponse:
        await service.reset_password(call.body.code, call.body.new_password, address(call))
        return no_content()

    async def set_device_key(call: Call) -> web.StreamResponse:
        await service.set_device_key(call.caller.session_id, call.body.public_key)
        return no_content()

    def public(path: str, handler: Handler, summary: str, body: type, reply: dict[int, object], *errors: str) -> Route:
        return Route(
            method="POST",
            path=f"/api/v1/auth/{path}",
            handler=handler,
            summary=summary,
            tag="auth",
            body=body,
            replies=reply,
            errors=errors,
            auth="none",
        )

    return [
        public(
            "register",
            register,
            "Make an account and sign in.",
            Register,
            {201: Session},
            "registration_closed",
            "invite_required",
            "invite_invalid",
            "email_taken",
            "username_taken",
            "rate_limited",
            "busy",
        ),
        public(
            "login",
            login,
            "Sign in.",
            Login,
            {200: Session},
            "credentials_invalid",
            "account_disabled",
            "rate_limited",
            "busy",
        ),
        public(
            "refresh",
            refresh,
            "Get the next pair of tokens.",
            Refresh,
            {200: Session},
            "token_invalid",
            "session_ended",
            "refresh_reused",
        ),
        public(
            "reset",
            reset,
            "Set a new password with a code from the operator; all sessions end.",
            Reset,
            {204: None},
            "reset_invalid",
            "rate_limited",
            "busy",
        ),
        Route(
            method="POST",
            path="/api/v1/auth/logout",
            handler=logout,
            tag="auth",
            summary="End this session; its sockets close.",
            replies={204: None},
        ),
        Route(
            method="GET",
            path="/api/v1/auth/sessions",
            handler=list_sessions,
            tag="auth",
            query=Page,
            summary="The devices that are signed in, newest first.",
            replies={200: Items[SessionInfo]},
            errors=("cursor_invalid",),
        ),
        Route(
            method="DELETE",
            path="/api/v1/auth/sessions/{session_id}",
            handler=end_session,
            tag="auth",
            summary="Sign a device out.",
            replies={204: None},
            errors=("not_found",),
        ),
        Route(
            method="PUT",
            path="/api/v1/auth/password",
            handler=change_password,
            tag="auth",
            body=ChangePassword,
            summary="Change the password; other sessions end.",
            replies={204: None},
            errors=("password_wrong", "rate_limited", "busy"),
        ),
        Route(
            method="PUT",
            path="/api/v1/auth/device-key",
            handler=set_device_key,
            tag="auth",
            body=DeviceKey,
            summary="The public key of this session's device, used by P2P.",
            replies={204: None},
        ),
    ]
