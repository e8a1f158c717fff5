"""`hypersend-server user …` and `invite …`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, ValidationError, convert

from hypersend_server.app import Parts, open_parts
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.errors import HyperSendError
from hypersend_server.names import Username
from hypersend_server.settings import Settings, duration_s, size_bytes
from hypersend_server.users.types import MAX_INVITE_S, MAX_INVITE_USES, MIN_INVITE_S, NewInvite, PatchUser

PAGE = 200
Work = Callable[[Parts, argparse.Namespace, Console], Awaitable[int]]


def add_to(commands: Any) -> None:
    users = commands.add_parser("user", help="people: add, list, reset, disable, quota").add_subparsers(
        required=True, metavar="ACTION")
    parser = _action(users, "add", _add_user, "make an account, whatever REGISTRATION says")
    parser.add_argument("email")
    parser.add_argument("--username", help="3 to 32 of a-z 0-9 _ . (default: from the e-mail)")
    parser.add_argument("--name", help="the name that people see")
    parser.add_argument("--admin", action="store_true", help="an administrator")
    _action(users, "list", _list_users, "everybody, with what they store")
    parser = _action(users, "reset", _reset, "a code with which this person sets a new password")
    parser.add_argument("email")
    parser = _action(users, "disable", _disable, "sign somebody out and keep them out")
    parser.add_argument("email")
    parser.add_argument("--undo", action="store_true", help="let them in again")
    parser = _action(users, "quota", _quota, "how much somebody may store")
    parser.add_argument("email")
    parser.add_argument("size", help="such as 50GB; 'default' for the server's own")

    invites = commands.add_parser("invite", help="invites: add, list, remove").add_subparsers(
        required=True, metavar="ACTION")
    parser = _action(invites, "add", _add_invite, "a code to register with")
    parser.add_argument("--max-uses", type=int, default=1, help="how many may use it (default 1)")
    parser.add_argument("--expires-in", default="7d", help="such as 12h or 7d (default 7d)")
    _action(invites, "list", _list_invites, "all invites")
    parser = _action(invites, "remove", _remove_invite, "nobody registers with it any more")
    parser.add_argument("invite", metavar="ID", help="as `invite list` shows it")


def _action(group: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    json_flag(parser)

    def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
        async def with_parts() -> int:
            # The first account or invite may come before the first start; all else asks an existing server.
            async with open_parts(settings, must_exist=name != "add") as parts:
                return await work(parts, arguments, console)

        return asyncio.run(with_parts())

    parser.set_defaults(run=run)
    return parser


def _new_password() -> str:
    """HYPERSEND_PASSWORD, or a line of standard input, or asked for twice on a terminal."""
    if password := os.environ.get("HYPERSEND_PASSWORD"):
        return password
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise HyperSendError(
                "validation_failed", "There is no terminal to ask for the password: set HYPERSEND_PASSWORD, or give it "
                "as one line of standard input.")
        return password
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise HyperSendError("validation_failed", "The two passwords differ.")
    return password


async def _add_user(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    username = arguments.username or arguments.email.partition("@")[0]
    if not arguments.username:
        try:
            convert(username, Username)
        except ValidationError:
            raise HyperSendError(
                "validation_failed", f"“{username}”, from the e-mail, cannot be a user name: give one with --username, "
                "of 3 to 32 of a-z, 0-9, _ and .") from None
    user = await parts.accounts.add_user(
        arguments.email, username, await asyncio.to_thread(_new_password), display_name=arguments.name,
        is_admin=arguments.admin)
    console.say(f"Added {user.username} ({user.email}){', an administrator' if user.is_admin else ''}")
    console.result({"id": user.id, "email": user.email, "username": user.username, "is_admin": user.is_admin})
    return 0


async def _list_users(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    found = []
    cursor: str | None = None
    while True:
        page = await parts.admin.list_users(cursor, PAGE)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    for user in found:
        notes = [word for word, holds in (("administrator", user.is_admin), ("disabled", user.disabled)) if holds]
        quota = "" if user.quota_bytes is None else f" of {shown_size(user.quota_bytes)}"
        console.say(f"{user.username:<32} {user.email:<40} {shown_size(user.used_bytes)}{quota} {' '.join(notes)}")
    console.result({"items": found})
    return 0


async def _reset(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    code = await parts.accounts.create_reset(arguments.email)
    console.say(f"Good once, for a day; POST /api/v1/auth/reset with this code and a new password:\n    {code}")
    console.result({"code": code})
    return 0


async def _disable(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    user = await parts.admin.find_user(arguments.email)
    changed = await parts.admin.patch_user(None, user.id, PatchUser(disabled=not arguments.undo))
    console.say(f"{changed.username} is {'let in again' if arguments.undo else 'signed out and disabled'}")
    console.result(changed)
    return 0


async def _quota(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    try:
        quota = None if arguments.size == "default" else size_bytes(arguments.size)
    except ValueError as error:
        console.problem(f"the quota must be {error}, or 'default'")
        return 2
    user = await parts.admin.find_user(arguments.email)
    changed = await parts.admin.patch_user(None, user.id, PatchUser(quota_bytes=quota, disabled=UNSET))
    console.say(f"{changed.username} may store {'the default' if quota is None else shown_size(quota)}")
    console.result(changed)
    return 0


async def _add_invite(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    try:
        expires_in = duration_s(arguments.expires_in)
    except ValueError as error:
        console.problem(f"--expires-in must be {error}")
        return 2
    if not MIN_INVITE_S <= expires_in <= MAX_INVITE_S:
        console.problem("--expires-in must be from 1m to 3650d")
        return 2
    if not 1 <= arguments.max_uses <= MAX_INVITE_USES:
        console.problem(f"--max-uses must be from 1 to {MAX_INVITE_USES}")
        return 2
    invite = await parts.admin.add_invite(None, NewInvite(max_uses=arguments.max_uses, expires_in=expires_in))
    console.say(f"{invite.code}")
    console.result(invite)
    return 0


async def _remove_invite(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    await parts.admin.delete_invite(None, arguments.invite)
    console.say(f"{arguments.invite} is worth nothing any more")
    return 0


async def _list_invites(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    found = []
    cursor: str | None = None
    while True:
        page = await parts.admin.list_invites(cursor, PAGE)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    now = datetime.now(UTC)
    for invite in found:
        until = f"until {invite.expires_at}" if invite.expires_at else "until used up"
        if invite.uses >= invite.max_uses:
            until = "used up"
        elif invite.expires_at and datetime.fromisoformat(invite.expires_at) <= now:
            until = f"expired {invite.expires_at}"
        console.say(f"{invite.id}  used {invite.uses} of {invite.max_uses}, {until}")
    console.result({"items": found})
    return 0


