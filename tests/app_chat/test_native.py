"""Files from device to device in the app as on a phone: offered, accepted, paused, called off, by its buttons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.driver import Screen
from tests.app_chat.gallery_native import MIB, Phones, noise, phones
from tests.p2p_sdk.pairs import until
from tests.sdk_transfers.device import digest
from tests.web.chromium import chromium


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Phones]:
    async with phones(tmp_path) as two:
        yield two


@pytest.fixture
async def screen(two: Phones) -> AsyncIterator[Screen]:
    async with chromium() as browser:
        screen = await Screen.open(browser, two.url)
        await screen.sign_in("meera")
        await screen.sees("chat-filter")
        await screen.go(f"/chat/{two.chat_id}")
        await screen.sees("composer")
        yield screen
        await screen.watched.context.close()


async def test_offer_is_accepted_paused_and_arrives(two: Phones, screen: Screen, tmp_path: Path) -> None:
    path = noise(tmp_path / "film.mkv", 24 * MIB)
    two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
    sending = await two.ann.p2p.send(two.chat_id, path, two.meera_id)
    await screen.click(f"peer-accept-{sending.transfer_id}")
    await until(lambda: sending.done_bytes > 4 * MIB)
    await screen.click(f"peer-pause-{sending.transfer_id}")
    await until(lambda: sending.state == "waiting")
    await screen.click(f"peer-resume-{sending.transfer_id}")
    await until(lambda: sending.state == "running")
    two.ann.p2p.send_limit.bytes_per_s = None
    async with asyncio.timeout(60):
        await sending.wait()
    await screen.sees(f"peer-open-{sending.transfer_id}")
    assert digest(two.state / "Downloads" / "film.mkv") == digest(path)


async def test_offer_is_declined(two: Phones, screen: Screen, tmp_path: Path) -> None:
    sending = await two.ann.p2p.send(two.chat_id, noise(tmp_path / "film.mkv", MIB), two.meera_id)
    await screen.click(f"peer-decline-{sending.transfer_id}")
    await until(lambda: sending.ended)
    assert sending.state == "failed"
    assert (await two.ann.p2p.calls.get(sending.transfer_id)).status == "declined"


async def test_transfer_is_called_off_and_leaves_nothing(two: Phones, screen: Screen, tmp_path: Path) -> None:
    two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
    sending = await two.ann.p2p.send(two.chat_id, noise(tmp_path / "film.mkv", 64 * MIB), two.meera_id)
    await screen.click(f"peer-accept-{sending.transfer_id}")
    await until(lambda: sending.done_bytes > MIB)
    await screen.click(f"peer-cancel-{sending.transfer_id}")
    await screen.click("confirm-yes")
    await until(lambda: sending.ended)
    assert (await two.ann.p2p.calls.get(sending.transfer_id)).status == "cancelled"
    await until(lambda: not [*(two.state / "Downloads").glob("film.mkv*")])


async def test_sender_puts_it_on_the_server_instead(two: Phones, screen: Screen, tmp_path: Path) -> None:
    path = noise(tmp_path / "film.mkv", 32 * MIB)
    two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
    sending = await two.ann.p2p.send(two.chat_id, path, two.meera_id)
    await screen.click(f"peer-accept-{sending.transfer_id}")
    await until(lambda: sending.done_bytes > 4 * MIB)
    async with asyncio.timeout(60):
        await (await two.ann.p2p.store(sending.transfer_id)).wait()
    await until(lambda: (two.state / "Downloads" / "film.mkv").exists())
    assert digest(two.state / "Downloads" / "film.mkv") == digest(path)
