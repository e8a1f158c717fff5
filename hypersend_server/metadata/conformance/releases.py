"""What every backend's `Releases` must do."""

from __future__ import annotations

import asyncio

import msgspec

from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.conformance.chats_people import NOW, refused
from hypersend_server.metadata.releases import ReleaseRecord

A_RELEASE = ReleaseRecord(
    id="r1", version="1.4.0", platform="android", abi="arm64-v8a", file_id="f", size=5, sha256=bytes(range(32)),
    notes="New: नमस्ते", mandatory=True, share=100, published_at=NOW)


def another(release_id: str, **fields: object) -> ReleaseRecord:
    return msgspec.structs.replace(A_RELEASE, id=release_id, **fields)


class ReleasesConformance:
    """Tests of `metadata.releases`; `metadata` is an open, empty backend."""

    async def test_a_release_is_published_until_it_is_withdrawn(self, metadata: Metadata) -> None:
        assert await metadata.releases.published() == []
        await metadata.releases.add(A_RELEASE)
        assert await metadata.releases.published() == [A_RELEASE]
        await metadata.releases.set_share("r1", 20)
        assert (await metadata.releases.published())[0].share == 20
        await metadata.releases.withdraw("r1", NOW + 1)
        await metadata.releases.withdraw("r1", NOW + 2)
        await metadata.releases.withdraw("none", NOW)
        assert await metadata.releases.published() == []

    async def test_a_version_is_published_once_for_a_platform_and_abi(self, metadata: Metadata) -> None:
        found = await asyncio.gather(
            *(metadata.releases.add(another(f"r{n}")) for n in range(4)), return_exceptions=True)
        assert sum(error is None for error in found) == 1
        await refused("release_exists", metadata.releases.add(another("again")))
        await metadata.releases.add(another("x86", abi="x86_64"))
        await metadata.releases.add(another("windows", platform="windows"))
        kept = next(release for release in await metadata.releases.published() if release.id.startswith("r"))
        await metadata.releases.withdraw(kept.id, NOW)
        await metadata.releases.add(another("mended"))
        assert {release.id for release in await metadata.releases.published()} == {"x86", "windows", "mended"}

    async def test_each_change_can_be_noticed(self, metadata: Metadata) -> None:
        seen = [await metadata.releases.newest_change()]
        for change in (
            metadata.releases.add(A_RELEASE), metadata.releases.set_share("r1", 5),
            metadata.releases.withdraw("r1", NOW),
        ):
            await asyncio.sleep(0.002)
            await change
            seen.append(await metadata.releases.newest_change())
        assert seen[0] == 0
        assert len(set(seen)) == 4
