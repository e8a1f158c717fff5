"""`hypersend p2p …`: files from this device to another, which the server never keeps."""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypersend_client.cli.people import UsageError, find_chat
from hypersend_client.cli.screen import Screen, clean
from hypersend_client.cli.words import size
from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import HyperSendError
from hypersend_client.sdk.p2p import PeerReceiver, PeerSender, PeerTransfer
from hypersend_client.sdk.places import state_folder
from hypersend_client.sdk.transfer_errors import PeerEnded
from hypersend_client.sdk.transfers import Transfers

AT_ONCE = 32
QUIET_S = 5.0
NEW_DEVICE = ("Careful: you have not met this device of theirs before. It is a new one, or somebody in between: "
              "compare the number.")


VOUCHED = "It came through the server, which could read it; the device that sent it vouches for what is in it."
UNVOUCHED = ("Careful: it came through the server, and only the server says what is in it: nobody had accepted it "
             "before it was put there.")


async def p2p(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    match options.p2p:
        case "send":
            return await send(hs, options, screen, options.path)
        case "receive":
            return await _receive(hs, options, screen)
        case "safety":
            return await _safety(hs, options, screen)
        case _:
            from hypersend_client.cli import p2p_known

            return await p2p_known.COMMANDS[options.p2p](hs, options, screen)


def files_of(paths: Sequence[str]) -> list[tuple[Path, str]]:
    """Files, and those in folders: (path, name to send it under). Raises: UsageError.

    Links inside a folder are left out: they may lead to what nobody meant to send.
    """
    found: list[tuple[Path, str]] = []
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            found.append((path, path.name))
            continue
        inside = sorted(Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        files = [file for file in inside if file.is_file() and not file.is_symlink()]
        # A name is no path: what stood between the folders becomes part of it.
        found += [(file, " - ".join(file.relative_to(path).parts)) for file in files]
        if not files:
            raise UsageError(f"there is no file in {text}")
    return found


async def send(hs: HyperSend, options: Namespace, screen: Screen, paths: Sequence[str]) -> int:
    files = await asyncio.to_thread(files_of, paths)
    chat = await find_chat(hs, options.chat)
    if chat.kind == "saved":
        screen.say("It goes to another device of yours: say `hypersend p2p receive` there, or accept it in the app.")
    async with live(hs, options):
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(path: Path, name: str) -> PeerTransfer:
            async with gate:
                sending = await hs.p2p.send(chat.id, path, name=name)
                asking = asyncio.create_task(_tell_number(hs, sending, screen))
                try:
                    await screen.follow([sending])
                    done = await sending.wait()
                    await asking  # also where the file was there before anybody could look
                    if not sending.is_confirmed:
                        screen.say(f"{clean(name)}: the server says that it has arrived; the other device did not.")
                    return done
                finally:
                    asking.cancel()

        done = await _all(one(path, name) for path, name in files)
    names = ", ".join(clean(transfer.name) for transfer in done)
    found = done[0].to_json() if len(done) == 1 else {"items": [transfer.to_json() for transfer in done]}
    screen.result(found, f"Sent to {clean(chat.title) or options.chat}, from device to device: {names}")
    return 0


async def _all(sendings: Iterable[Coroutine[Any, Any, PeerTransfer]]) -> list[PeerTransfer]:
    """The first that fails stops the others for now."""
    tasks = [asyncio.create_task(sending) for sending in sendings]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell_number(hs: HyperSend, sending: PeerSender, screen: Screen) -> None:
    """Once somebody has accepted."""
    async for _ in sending.updates():
        if (number := sending.safety_number) is not None:
            screen.say(f"Safety number: {number} (it must be the same on the other device)")
            # Asked first: the end notes it later than the number, and once all has arrived the device is known.
            if await hs.p2p.is_new_device(sending.info) or sending.is_new_device:
                screen.say(NEW_DEVICE)
            return


async def _receive(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    found: list[dict[str, Any]] = []
    async with live(hs, options):
        while True:
            if options.transfer is not None:
                info = await hs.p2p.calls.get(options.transfer)
            else:
                try:
                    async with asyncio.timeout(QUIET_S if found else None):
                        info = await hs.p2p.next()
                except TimeoutError:
                    break
            if not await _agreed(hs, info, options, screen):
                await hs.p2p.decline(info.id)
                raise PeerEnded("declined")
            receiving = await hs.p2p.receive(info.id, options.output, sender_key=info.sender_key)
            await screen.follow([receiving])
            path = await receiving.wait()
            if receiving.came_through_server:
                screen.say(f"{clean(path.name)}: {VOUCHED if receiving.is_vouched else UNVOUCHED}")
            found.append((await _ended(hs, receiving)).to_json() | {
                "path": str(path), "came_through_server": receiving.came_through_server,
                "is_vouched": receiving.is_vouched})
            if not options.all or options.transfer is not None:
                break
    paths = "\n".join(item["path"] for item in found)
    screen.result(found[0] if len(found) == 1 else {"items": found}, paths)
    return 0


async def _ended(hs: HyperSend, receiving: PeerReceiver) -> PeerTransfer:
    try:
        return await hs.p2p.calls.get(receiving.transfer_id)
    except HyperSendError:
        return receiving.info  # the file is here, whatever the server says now


async def _agreed(hs: HyperSend, info: PeerTransfer, options: Namespace, screen: Screen) -> bool:
    """Whether the person wants it; asked but once a transfer."""
    if info.status != "offered":
        return True
    sender = await hs.users.get(info.sender_id)
    number = await hs.p2p.number_for(info)
    screen.say(
        f"{clean(sender.display_name or sender.username or '')} sends {clean(info.name)} ({size(info.size)}), "
        f"from device to device.\nSafety number: {number} (it must be the same on the other device)")
    if await hs.p2p.is_new_device(info):
        screen.say(NEW_DEVICE)
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: say --yes to accept")
    answer = await screen.ask("Accept it? [y/N] ")
    if not answer:
        raise UsageError("nobody has answered, so the offer stays")
    return answer.strip().lower() in ("y", "yes")


async def _safety(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    chat = await find_chat(hs, options.chat)
    async with live(hs, options):
        found = []
        for _, user_id, number in await hs.p2p.safety_numbers(chat.id):
            user = await hs.users.get(user_id)
            found.append({"user_id": user.id, "username": user.username or "", "safety_number": number})
    rows = [(f"@{clean(item['username'])}", item["safety_number"]) for item in found]
    text = screen.table(rows, "No device of theirs is known yet: the number is shown when a transfer is accepted.")
    screen.result({"items": found}, text)
    return 0


@asynccontextmanager
async def live(hs: HyperSend, options: Namespace) -> AsyncIterator[Transfers]:
    """With the journal, and hearing at once what others do."""
    transfers = Transfers(hs, state_folder() / "transfers.sqlite")
    p2p = hs.p2p
    p2p.send_limit.bytes_per_s = p2p.receive_limit.bytes_per_s = options.limit_rate
    p2p.direct = not options.relay_only
    hs.connection.start()
    try:
        yield transfers
    finally:
        await hs.connection.stop()
        await transfers.close()
