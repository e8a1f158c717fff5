"""A newer build is found and fetched from the real server."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hypersend_client.sdk import HyperSend
from hypersend_client.sdk.transfer_errors import UpdateBroken
from hypersend_client.sdk.updates import Release
from tests.harness import Server, running
from tests.sdk.proxy import proxied
from tests.updates.test_updates import MIB, administrator, publish

WAIT_S = 60


async def offered(hs: HyperSend, version: str = "1.0.0") -> Release:
    found = await hs.updates.check("android", "arm64-v8a", version)
    assert found is not None
    return found


async def published(server: Server, data: bytes, version: str = "1.4.0", notes: str = "") -> None:
    await publish(await administrator(server), data, version, abi="arm64-v8a", notes=notes)


async def test_nothing_is_offered_where_nothing_is_newer(tmp_path: Path) -> None:
    async with running(tmp_path) as server, HyperSend(server.url) as hs:
        assert await hs.updates.check("android", "arm64-v8a", "1.4.0") is None
        await published(server, b"build")
        assert await hs.updates.check("android", "arm64-v8a", "1.4.0") is None
        assert await hs.updates.check("android", "x86_64", "1.0.0") is None
        assert await hs.updates.check("linux", "arm64-v8a", "1.0.0") is None


async def test_a_newer_build_is_fetched_whole_with_progress_by_who_is_not_signed_in(tmp_path: Path) -> None:
    data = os.urandom(MIB)
    async with running(tmp_path / "server") as server, HyperSend(server.url) as hs:
        await published(server, data, notes="Faster")
        release = await offered(hs)
        assert (release.version, release.notes, release.size) == ("1.4.0", "Faster", MIB)
        seen: list[tuple[int, int]] = []
        path = await hs.updates.download(release, tmp_path / "updates", lambda *step: seen.append(step))
        assert path.suffix == ".apk"
        assert path.read_bytes() == data
        assert seen[-1] == (MIB, MIB)
        assert os.listdir(path.parent) == [path.name]


async def test_a_cut_download_goes_on_where_it_was(tmp_path: Path) -> None:
    data = os.urandom(8 * MIB)
    async with running(tmp_path / "server") as server, proxied(server.url) as line, HyperSend(line.url) as hs:
        await published(server, data)
        release = await offered(hs)
        cuts, before_cut, dones = 0, 0, []

        def moved(done: int, size: int) -> None:
            nonlocal cuts, before_cut
            dones.append(done)
            if not cuts and done > MIB:
                cuts, before_cut = 1, done
                line.cut()

        async with asyncio.timeout(WAIT_S):
            path = await hs.updates.download(release, tmp_path / "updates", moved)
        assert path.read_bytes() == data
        assert cuts == 1
        assert dones == sorted(dones), "it began anew"
        assert min(done for done in dones if done > before_cut) > before_cut


async def test_what_an_earlier_try_left_is_not_fetched_again(tmp_path: Path) -> None:
    data = os.urandom(8 * MIB)
    async with running(tmp_path / "server") as server, HyperSend(server.url) as hs:
        await published(server, data)
        release = await offered(hs)
        halfway = asyncio.Event()
        first = asyncio.create_task(hs.updates.download(
            release, tmp_path / "updates", lambda done, size: halfway.set() if done > MIB else None))
        async with asyncio.timeout(WAIT_S):
            await halfway.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        [part] = (tmp_path / "updates").iterdir()
        left = part.stat().st_size
        seen: list[int] = []
        async with asyncio.timeout(WAIT_S):
            path = await hs.updates.download(release, tmp_path / "updates", lambda done, size: seen.append(done))
        assert path.read_bytes() == data
        assert left == len(data) or min(seen) > left


async def test_a_build_with_a_wrong_digest_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "server") as server, HyperSend(server.url) as hs:
        await published(server, b"something else")
        wrong = replace(await offered(hs), sha256="0" * 64)
        with pytest.raises(UpdateBroken):
            await hs.updates.download(wrong, tmp_path / "updates")
        assert os.listdir(tmp_path / "updates") == []


async def test_a_build_longer_than_it_said_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "server") as server, HyperSend(server.url) as hs:
        await published(server, os.urandom(MIB))
        short = replace(await offered(hs), size=MIB // 2)
        with pytest.raises(UpdateBroken):
            await hs.updates.download(short, tmp_path / "updates")
        assert not list((tmp_path / "updates").glob("*.apk"))
