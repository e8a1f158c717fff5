"""Transfers as the screen shows them, over a real server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypersend_client.app.state import AppState
from hypersend_client.app.transfer_list import TransferList, TransferRow, total_of
from hypersend_client.sdk import HyperSend, MemoryTokenStore
from hypersend_client.sdk.transfer import State
from hypersend_client.sdk.transfers import Transfers
from tests.app.fakes import FakeMemory
from tests.harness import PASSWORD
from tests.sdk.people import person, until, user_id
from tests.web.site import Site, site


@dataclass
class World:
    server: Site
    ann: HyperSend
    chat_id: str
    folder: Path
    sign_in: Callable[..., object]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(site(tmp_path / "server", web_client="off"))
        ann = await stack.enter_async_context(person(server.url, "ann"))
        async with person(server.url, "meera") as meera:
            chat = await ann.chats.open_direct(user_id(meera))

        async def sign_in(*, web: bool) -> AppState:
            tokens = MemoryTokenStore()

            def transfers(hs: HyperSend) -> Transfers:
                return Transfers(hs, tmp_path / "transfers.sqlite", folder=tmp_path / "downloads")

            app = AppState(
                connect=lambda url: HyperSend(url, tokens=tokens), tokens=tokens, memory=FakeMemory(),
                built_in=server.url, transfers=None if web else transfers,
            )  # fmt: skip
            stack.push_async_callback(app.close)
            await app.open()
            await app.sign_in("meera@example.org", PASSWORD)
            await app.hs.sync.wait_current()
            return app

        yield World(server, ann, chat.id, tmp_path, sign_in)


async def shows(transfers: TransferList, holds: Callable[[], bool]) -> None:
    changed = asyncio.Event()
    listener = lambda *_: changed.set()  # noqa: E731 - held here, since listeners are held weakly
    stop = transfers.subscribe(listener)
    try:
        async with asyncio.timeout(20):
            while not holds():
                changed.clear()
                await changed.wait()
    finally:
        stop()


async def files_of(hs: HyperSend, chat_id: str, count: int) -> list[str]:
    async def holds() -> list[str]:
        names = [f.name for m in await hs.store.messages(chat_id) for f in m.files]
        return names if len(names) >= count else []

    return await until(hs, holds)  # type: ignore[no-any-return]


async def test_a_local_file_is_sent_and_fetched_again(world: World) -> None:
    app: AppState = await world.sign_in(web=False)  # type: ignore[misc]
    path = world.folder / "film.bin"
    path.write_bytes(os.urandom(3_000_000))
    await app.transfers.send(world.chat_id, str(path))
    assert [row.name for row in app.transfers.rows] == ["film.bin"]
    assert await files_of(world.ann, world.chat_id, 1) == ["film.bin"]
    await shows(app.transfers, lambda: app.transfers.rows[0].state == "done")
    assert app.transfers.waiting == 0
    file = (await world.ann.store.messages(world.chat_id))[0].files[0]
    await app.transfers.fetch(file)
    await shows(app.transfers, lambda: (row := app.transfers.download_of(file.id)) is not None and row.state == "done")
    row = app.transfers.download_of(file.id)
    assert row is not None
    assert Path(row.path).read_bytes() == path.read_bytes()
    app.transfers.clear_done()
    assert app.transfers.rows == ()


async def test_a_paused_upload_waits_and_goes_on(world: World) -> None:
    app: AppState = await world.sign_in(web=False)  # type: ignore[misc]
    path = world.folder / "film.bin"
    path.write_bytes(os.urandom(1_000_000))
    limit = app.transfers._sdk.upload_limit  # type: ignore[union-attr]
    limit.bytes_per_s = 400_000
    await app.transfers.send(world.chat_id, str(path))
    await shows(app.transfers, lambda: app.transfers.rows[0].done_bytes > 0)
    app.transfers.pause_all()
    await shows(app.transfers, lambda: app.transfers.rows[0].state == "paused")
    assert app.transfers.rows[0].group == "waiting"
    assert app.transfers.waiting == 1
    limit.bytes_per_s = None
    app.transfers.resume_all()
    assert await files_of(world.ann, world.chat_id, 1) == ["film.bin"]


async def test_cancelling_an_upload_gives_its_message_up(world: World) -> None:
    app: AppState = await world.sign_in(web=False)  # type: ignore[misc]
    path = world.folder / "film.bin"
    path.write_bytes(os.urandom(30_000_000))
    app.transfers._sdk.upload_limit.bytes_per_s = 100_000  # type: ignore[union-attr]
    await app.transfers.send(world.chat_id, str(path))
    await app.transfers.cancel(app.transfers.rows[0].id)
    assert app.transfers.rows == ()
    assert await app.hs.outbox.entries() == []


async def test_what_the_upload_page_sends_becomes_a_message_of_its_chat(world: World) -> None:
    app: AppState = await world.sign_in(web=True)  # type: ignore[misc]
    second: AppState = await world.sign_in(web=True)  # type: ignore[misc]  # another tab: still one message
    ticket = (await app.hs.files.upload_ticket(chat_id=world.chat_id)).url.partition("ticket=")[2]
    await put(world, ticket, "page.bin", 70_000)
    assert await files_of(world.ann, world.chat_id, 1) == ["page.bin"]
    await shows(app.transfers, lambda: any(row.state == "done" and row.in_page for row in app.transfers.rows))
    await shows(second.transfers, lambda: any(row.state == "done" for row in second.transfers.rows))
    await asyncio.gather(app.hs.messages.page(world.chat_id), second.hs.messages.page(world.chat_id))
    assert [m.kind for m in (await world.ann.messages.page(world.chat_id)).items] == ["file"]


async def test_an_upload_of_another_device_is_not_sent_to_the_chat_of_the_page(world: World) -> None:
    app: AppState = await world.sign_in(web=True)  # type: ignore[misc]
    await app.hs.files.upload_ticket(chat_id=world.chat_id)
    other: AppState = await world.sign_in(web=False)  # type: ignore[misc]
    path = world.folder / "private.bin"
    path.write_bytes(os.urandom(50_000))
    sdk = other.transfers._sdk
    assert sdk is not None
    await (await sdk.upload(path, chat_id=world.chat_id)).wait()
    await world.ann.messages.send(world.chat_id, "afterwards")
    async with asyncio.timeout(20):
        while not await app.hs.store.messages(world.chat_id):
            await asyncio.sleep(0.02)
    assert [m.text for m in (await world.ann.messages.page(world.chat_id)).items] == ["afterwards"]
    assert app.transfers.rows == ()


async def put(world: World, ticket: str, name: str, size: int) -> None:
    """As the upload page does it."""
    headers = {"Authorization": f"Bearer {ticket}"}
    http, base = world.server.http, f"{world.server.url}/api/v1/files"
    async with http.post(f"{base}/init", json={"name": name, "size": size}, headers=headers) as answer:
        file_id = (await answer.json())["id"]
    async with http.put(f"{base}/{file_id}/chunk?index=0", data=b"x" * size, headers=headers) as answer:
        assert answer.status == 200
    async with http.post(f"{base}/{file_id}/complete", headers=headers) as answer:
        assert answer.status == 201


def test_the_total_is_of_what_runs() -> None:
    rows = [
        TransferRow("1", True, "a", 1000, 500, "running", 100.0, 5.0),
        TransferRow("2", False, "b", 2000, 0, "running", 400.0, 5.0),
        TransferRow("3", True, "c", 5000, 100, "paused"),
        TransferRow("4", True, "d", 700, 700, "done"),
    ]
    total = total_of(rows)
    assert (total.count, total.done_bytes, total.size_bytes, total.bytes_per_s, total.left_s) == (
        2,
        500,
        3000,
        500.0,
        5.0,
    )
    assert [row.group for row in rows] == ["running", "running", "waiting", "done"]


def test_pause_all_stops_what_waits_for_its_turn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have its turn as soon as another one is paused."""
    transfers, paused = TransferList(), list[str]()
    monkeypatch.setattr(transfers, "pause", paused.append)
    states: tuple[State, ...] = ("running", "queued", "paused", "failed", "done")
    transfers.rows = tuple(TransferRow(state, True, "film.mkv", 100, 10, state) for state in states)
    transfers.pause_all()
    assert paused == ["running", "queued"]
