"""The commands but `watch`: thin, over the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import io
import os
import sys
import unicodedata
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hypersend_client.cli.people import (
    NotFound,
    UsageError,
    all_chats,
    device_name,
    find_chat,
    find_message,
    signed_in,
    token_store,
    told_server,
)
from hypersend_client.cli.screen import Screen, clean
from hypersend_client.cli.watch import watch
from hypersend_client.cli.words import size
from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import ApiError, HyperSendError
from hypersend_client.sdk.journal import Journal
from hypersend_client.sdk.models import File, Message
from hypersend_client.sdk.places import state_folder
from hypersend_client.sdk.sending import MAX_FILES, send
from hypersend_client.sdk.transfers import Transfers

GIVE_UP_S = 15 * 60.0
MAX_TEXT = 8000

__all__ = ["UsageError", "run"]


async def run(options: Namespace, screen: Screen) -> int:
    """The exit status. Raises: UsageError, HyperSendError."""
    if options.command == "login":
        return await _login(options, screen)
    if options.command == "send":
        _check_send(options)
    async with signed_in(options) as hs:
        return await COMMANDS[options.command](hs, options, screen)


async def _login(options: Namespace, screen: Screen) -> int:
    url = told_server(options)
    if url is None:
        accounts = await token_store().accounts()
        if not accounts:
            raise UsageError("say which server: --server ADDRESS, or set API_BASE_URL")
        url = accounts[0].url
    hs = HyperSend(url, tokens=token_store(), device=device_name())
    try:
        await hs.connect()  # a wrong address is said before a password is asked for
        user = await hs.login(options.email, _password(options.email))
        screen.result(user, f"Signed in as {clean(user.username or '')} on {hs.url}")
    finally:
        await hs.close()
    return 0


def _password(email: str) -> str:
    if told := os.environ.get("HYPERSEND_PASSWORD"):
        return told
    asked = sys.stdin.isatty()
    password = getpass.getpass(f"Password of {email}: ") if asked else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageError("a password is needed: from the prompt, HYPERSEND_PASSWORD or standard input")
    return password


async def _logout(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    account = hs.account
    assert account is not None
    journal = Journal(_journal_path())
    with contextlib.suppress(HyperSendError):  # without a network the rest is not tried: it expires by itself
        for row in await journal.uploads(account.key):
            if row.file_id and not row.done:  # nobody goes on with it, and it holds space
                with contextlib.suppress(ApiError):
                    await hs.files.delete(row.file_id)
    await journal.forget(account.key)
    await journal.close()
    await hs.logout()
    screen.result({"signed_out": account.username, "server": hs.url}, f"{account.username} is signed out of {hs.url}")
    return 0


async def _whoami(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    user = await hs.me.get()
    screen.result(
        {**user.to_json(), "server": hs.url},
        f"{clean(user.display_name)} @{clean(user.username or '')} <{clean(user.email or '')}> on {hs.url}",
    )
    return 0


async def _chats(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    chats = await all_chats(hs, archived=options.archived)
    rows = []
    for chat in chats:
        last = chat.last_message
        title = chat.title or (f"@{chat.peer.username}" if chat.peer is not None else "")
        rows.append(
            (
                chat.id,
                clean(title)[:40],
                f"{chat.unread} new" if chat.unread else "",
                "" if last is None else clean(last.text or ", ".join(file.name for file in last.files))[:60],
            )
        )
    none = "There are no chats yet. Write to someone: hypersend send @NAME Hello"
    text = screen.table(rows, "No chat is archived." if options.archived else none)
    screen.result({"items": [chat.to_json() for chat in chats]}, text)
    return 0


def _unfit(text: str) -> str | None:
    """Why the server takes it as no text; None: it does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if any(unicodedata.category(sign) == "Cc" and sign not in "\t\n\r" for sign in text):
        return "has control characters in it, such as the colours of a terminal"
    return None


def _check_send(options: Namespace) -> None:
    if options.text == ["-"] or (not options.text and not options.file and not sys.stdin.isatty()):
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is told below
        options.text = [sys.stdin.read(4 * MAX_TEXT).rstrip("\n")]
    options.message = " ".join(options.text)
    if (problem := _unfit(options.message)) is not None:
        raise UsageError(f"the text {problem}; send it as a file")
    if not options.message.strip() and not options.file:
        raise UsageError("there is nothing to send: give a text or --file PATH")
    if len(options.message) > MAX_TEXT:
        raise UsageError(f"a message has at most {MAX_TEXT:,} characters; send it as a file")
    if options.p2p and not options.file:
        raise UsageError("--p2p sends files: say which with --file PATH")
    if len(options.file) > MAX_FILES and not options.p2p:
        raise UsageError(f"a message has at most {MAX_FILES} files")
    if len(options.file) > 1 and not options.text and (missing := [p for p in options.file if not Path(p).exists()]):
        raise UsageError(f"there is no file {missing[0]!r}; a text stands before --file")


async def _p2p(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    from hypersend_client.cli.p2p import p2p  # late: its ciphers take a while to load

    return await p2p(hs, options, screen)


async def _send(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    if options.p2p:
        from hypersend_client.cli import p2p

        if options.message.strip():
            chat = await find_chat(hs, options.chat)
            await hs.messages.send(chat.id, options.message)
        return await p2p.send(hs, options, screen, options.file)
    chat = await find_chat(hs, options.chat)
    async with _transfers(hs, options) as transfers:
        sending = await send(transfers, hs, chat.id, options.message, options.file, give_up_s=GIVE_UP_S)
        if sending.uploads:
            await screen.follow(sending.uploads)
        message = await sending.message()
    files = ", ".join(clean(file.name) for file in message.files)
    screen.result(message, f"Sent to {clean(chat.title) or options.chat}" + (f": {files}" if files else ""))
    return 0


async def _upload(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    async with _transfers(hs, options) as transfers:
        upload = await transfers.upload(options.path)
        await screen.follow([upload])
        file = await upload.wait()
    screen.result(file, f"{file.id}  {clean(file.name)}")
    return 0


async def _get(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    files, message = await _files_of(hs, options.id)
    folder, to = None, None
    if options.output:
        output = Path(options.output)
        if await asyncio.to_thread(output.is_dir) or options.output.endswith(("/", os.sep)):
            folder = output
        elif len(files) > 1:
            raise UsageError(f"the message has {len(files)} files, so -o must be a folder")
        else:
            to = output
    async with _transfers(hs, options) as transfers:
        downloads = [await transfers.download(file, folder=folder, to=to) for file in files]
        await screen.follow(downloads)
        paths = [str(await download.wait()) for download in downloads]
    found = files[0].to_json() | {"path": paths[0]} if message is None else message.to_json() | {"paths": paths}
    screen.result(found, "\n".join(paths))
    return 0


async def _files_of(hs: HyperSend, name: str) -> tuple[list[File], Message | None]:
    """The file of this id, or the files of the message of this id. Raises: NotFound."""
    try:
        return [await hs.files.get(name)], None
    except ApiError as error:
        if error.status not in (400, 404, 422):
            raise
    message = await find_message(hs, name)
    if message is None:
        raise NotFound(f"There is no file and no message “{name}”, or you may not see it.")
    if not message.files:
        raise NotFound("That message has no files.")
    return message.files, message


async def _ls(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    files: list[File] = []
    cursor: str | None = None
    while True:
        page = await hs.files.page(limit=200, cursor=cursor)
        files += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    rows = [
        (
            file.id,
            size(file.size),
            "" if file.created_at is None else f"{file.created_at:%Y-%m-%d %H:%M}",
            "" if file.state == "complete" else file.state,
            clean(file.name),
        )
        for file in files
    ]
    text = screen.table(rows, "You have no files on the server.")
    screen.result({"items": [file.to_json() for file in files]}, text)
    return 0


async def _rm(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    try:
        await hs.files.delete(options.id)
    except ApiError as error:
        if error.status != 404:
            raise
        raise NotFound(f"There is no file “{options.id}”, or it is not yours.") from error
    screen.result({"id": options.id, "removed": True}, f"Removed {options.id}")
    return 0


def _journal_path() -> Path:
    return state_folder() / "transfers.sqlite"


@asynccontextmanager
async def _transfers(hs: HyperSend, options: Namespace) -> AsyncIterator[Transfers]:
    transfers = Transfers(hs, _journal_path(), give_up_s=GIVE_UP_S)
    transfers.upload_limit.bytes_per_s = transfers.download_limit.bytes_per_s = options.limit_rate
    try:
        yield transfers
    finally:
        await transfers.close()


COMMANDS: dict[str, Callable[[HyperSend, Namespace, Screen], Awaitable[int]]] = {
    "logout": _logout,
    "whoami": _whoami,
    "chats": _chats,
    "send": _send,
    "watch": watch,
    "get": _get,
    "p2p": _p2p,
    "upload": _upload,
    "ls": _ls,
    "rm": _rm,
}
