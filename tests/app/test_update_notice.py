"""The word that a newer build is there, drawn without a client over a fake connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.app.updates import Build, this_build
from hypersend_client.sdk import transfer_errors
from hypersend_client.sdk.events import UpdateAvailable
from hypersend_client.sdk.updates import Release
from tests.app.fakes import ACCOUNT, World
from tests.app.stage import staged

HERE = Build("linux", "x86_64", Path("/nowhere"), "1.0.0")
NEWER = Release("1.4.0", 50_000_000, "0" * 64, "/updates/1.4.0/download", "linux", "x86_64", "Faster and calmer")


async def world(**options: Any) -> World:
    found = World(**{"build": HERE, **options})
    await found.tokens.put(ACCOUNT)
    return found


async def test_a_newer_build_is_offered_with_what_is_new_and_can_be_put_off() -> None:
    house = await world(updates__check=NEWER)
    async with staged(house.app) as stage:
        await stage.reads("Version 1.4.0 is here")
        await stage.reads("Faster and calmer")
        await stage.reads("50 MB")
        assert ("updates.check", ("linux", "x86_64", "1.0.0"), {}) in house.client.calls
        await stage.click("update-later")
        await stage.until(lambda: stage.find("update-get") is None)
        await stage.go("/settings")
        await stage.click("to-update")
        await stage.sees("update-get")


async def test_it_is_fetched_with_progress_and_can_be_stopped_and_installed() -> None:
    steps: asyncio.Queue[int] = asyncio.Queue()

    async def download(release: Release, folder: Path, progress: Any) -> Path:
        while (done := await steps.get()) < release.size:
            progress(done, release.size)
        return folder / "HyperSend.tar.gz"

    house = await world(updates__check=NEWER)
    async with staged(house.app) as stage:
        await stage.sees("update-get")
        house.client.updates.download = download
        await stage.click("update-get")
        steps.put_nowait(20_000_000)
        await stage.reads("20 MB of 50 MB")
        await stage.click("update-stop")
        await stage.click("update-get")
        steps.put_nowait(NEWER.size)
        await stage.click("update-install")
        await stage.reads("The file is no longer where it was saved")


async def test_a_damaged_build_is_said_to_be_one_and_can_be_tried_again() -> None:
    house = await world(updates__check=NEWER, updates__download=transfer_errors.UpdateBroken("1.4.0"))
    async with staged(house.app) as stage:
        await stage.click("update-get")
        await stage.reads(house.app.t("error.update_broken"))
        await stage.sees("update-get")


async def test_a_mandatory_one_stands_in_place_of_everything() -> None:
    must = Release("2.0.0", 5, "0" * 64, "/x/y/z", "linux", "x86_64", "", mandatory=True)
    house = await world(updates__check=must)
    async with staged(house.app) as stage:
        await stage.sees("update-needed")
        await stage.reads("Version 2.0.0 does.")
        assert stage.find("update-later") is None
        assert stage.find("chat-filter") is None
        await stage.go("/settings")
        await stage.sees("update-needed")


async def test_a_build_that_is_published_meanwhile_is_told_at_once() -> None:
    house = await world()
    async with staged(house.app) as stage:
        await stage.sees("new-chat")
        house.answers["updates.check"] = NEWER
        house.client.connection.happen(UpdateAvailable({}))
        await stage.reads("Version 1.4.0 is here")


async def test_the_web_app_never_asks() -> None:
    house = await world(build=None)
    async with staged(house.app) as stage:
        await stage.sees("new-chat")
        house.client.connection.happen(UpdateAvailable({}))
        await asyncio.sleep(0)
        assert not [call for call in house.client.calls if call[0] == "updates.check"]


@pytest.mark.parametrize(("system", "machine", "abi"), [
    ("android", "aarch64", "arm64-v8a"), ("android", "armv8l", "armeabi-v7a"), ("linux", "x86_64", "x86_64"),
    ("windows", "AMD64", "x86_64"), ("macos", "arm64", "arm64"), ("linux", "riscv64", "universal"),
])  # fmt: skip
def test_a_device_asks_for_builds_that_run_on_it(system: str, machine: str, abi: str) -> None:
    build = this_build(system, Path("/x"), machine)
    assert build is not None
    assert build.abi == abi


def test_what_has_a_store_of_its_own_is_left_to_it() -> None:
    assert this_build("ios", Path("/x")) is None
