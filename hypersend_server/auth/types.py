"""Bodies and answers of /api/v1/auth."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hypersend_server.codes import Code
from hypersend_server.names import Device, DisplayName, Email, Username
from hypersend_server.resources import Body, Me, Resource

Password = Annotated[str, Meta(min_length=10, max_length=256)]
# What is only compared may be anything; its length still bounds the work.
GivenPassword = Annotated[str, Meta(max_length=1024)]


class Register(Body, frozen=True):
    email: Email
    username: Username
    password: Password
    display_name: DisplayName | None = None
    invite: Code | None = None
    device: Device | None = None


class Login(Body, frozen=True):
    email: Annotated[str, Meta(min_length=1, max_length=254)]
    password: GivenPassword
    device: Device | None = None


class Refresh(Body, frozen=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)]


class ChangePassword(Body, frozen=True):
    current_password: GivenPassword
    new_password: Password


class Reset(Body, frozen=True):
    code: Code
    new_password: Password


class DeviceKey(Body, frozen=True):
    public_key: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)", description="X25519 public key, 32 bytes in base64url")
    ]


class Session(Resource):
    """expires_in: seconds for which the access token is good."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    session_id: str
    user: Me


class SessionInfo(Resource):
    """One device that is signed in."""

    id: str
    device: str
    ip: str
    created_at: str
    last_seen_at: str
    current: bool
