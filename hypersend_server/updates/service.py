"""The rules of updates, free of HTTP: which release somebody is offered, and how one is published."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlencode

from hypersend_server.clock import Clock, rfc3339
from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.metadata.releases import ReleaseRecord, Releases
from hypersend_server.realtime import wire
from hypersend_server.realtime.events import Announcement, Bus
from hypersend_server.updates.types import ANY_ABI, BuildQuery, Checked, CheckQuery, LatestQuery, Release, ReleaseBody
from hypersend_server.updates.versions import Version


class Build(NamedTuple):
    """The bytes of a build. sha256: 32 bytes, of the whole file."""

    file_id: str
    size: int
    sha256: bytes


FindBuild = Callable[[str, str], Awaitable[Build]]
"""(user id, file id) → the build. Raises: `not_found`, `upload_incomplete`, `not_allowed`."""


class UpdateService:
    """What is published is held in memory: it is little, and asked for often."""

    def __init__(
        self, releases: Releases, bus: Bus, *, find_build: FindBuild, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._releases = releases
        self._bus = bus
        self._find_build = find_build
        self._clock = clock
        self._new_id = new_id
        self._change = -1
        self._published: list[ReleaseRecord] = []
        self._announced: set[str] | None = None  # by `poll`; of itself, since whoever asks refreshes too

    async def check(self, query: CheckQuery, who: str) -> Checked:
        """who: stands for the person or the address that asks, for a release that only a share of people gets."""
        running = _version(query.version)
        newer = [
            release for release in await self._for(query.platform, query.abi)
            if Version(release.version) > running and _is_among(release, who)]
        if not newer:
            return Checked(available=False, release=None)
        # Whoever skipped a mandatory one has to move on, also where the newest is not.
        return Checked(available=True, release=self.present(newer[0], any(release.mandatory for release in newer)))

    async def latest(self, query: LatestQuery) -> Release:
        """The newest that everybody is offered. Raises: `not_found`."""
        found = [release for release in await self._for(query.platform, query.abi) if release.share == 100]
        if not found:
            raise HyperSendError("not_found", "Nothing is published for this platform.")
        return self.present(found[0])

    async def find(self, version: str, query: BuildQuery) -> ReleaseRecord:
        """Raises: `not_found`."""
        await self.refresh()
        found = sorted(
            (release for release in self._published
             if release.version == version and query.platform in (None, release.platform)
             and (query.abi is None or release.abi in (query.abi, ANY_ABI))),
            key=lambda release: (release.platform, release.abi != query.abi, release.abi))
        if not found:
            raise HyperSendError("not_found", "This version is not published.")
        return found[0]

    async def published(self) -> list[ReleaseRecord]:
        """All, the newest of each platform first."""
        await self.refresh()
        newest = sorted(self._published, key=lambda release: (Version(release.version), release.abi), reverse=True)
        return sorted(newest, key=lambda release: release.platform)

    async def publish(self, user_id: str, body: ReleaseBody) -> Release:
        """Raises: `validation_failed`, `not_found`, `upload_incomplete`, `not_allowed`, `release_exists`."""
        return await self.publish_build(await self._find_build(user_id, body.file_id), body)

    async def publish_build(self, build: Build, body: ReleaseBody) -> Release:
        """Raises: `validation_failed`, `release_exists`."""
        _version(body.version)
        release = ReleaseRecord(
            id=self._new_id(), version=body.version, platform=body.platform, abi=body.abi, file_id=build.file_id,
            size=build.size, sha256=build.sha256, notes=body.notes, mandatory=body.mandatory, share=body.share,
            published_at=self._clock())
        await self._releases.add(release)
        return self.present(release)

    async def set_share(self, release: ReleaseRecord, share: int) -> None:
        await self._releases.set_share(release.id, share)

    async def withdraw(self, release: ReleaseRecord) -> None:
        await self._releases.withdraw(release.id, self._clock())

    async def poll(self) -> None:
        """Tell people of what was published since the last time, by whichever process or command."""
        await self.refresh()
        known, self._announced = self._announced, {release.id for release in self._published}
        for release in self._published:
            if known is not None and release.id not in known and release.share == 100:
                self._bus.publish(Announcement(wire.update(self.present(release))))

    async def refresh(self) -> None:
        change = await self._releases.newest_change()
        if change != self._change:
            self._published = await self._releases.published()
            self._change = change

    async def _for(self, platform: str, abi: str) -> list[ReleaseRecord]:
        """Newest first; of one version the device's own ABI before the one for all."""
        await self.refresh()
        found = [r for r in self._published if r.platform == platform and r.abi in (abi, ANY_ABI)]
        return sorted(found, key=lambda r: (Version(r.version), r.abi == abi), reverse=True)

    def present(self, release: ReleaseRecord, mandatory: bool | None = None) -> Release:
        build = urlencode({"platform": release.platform, "abi": release.abi})
        return Release(
            version=release.version, platform=release.platform, abi=release.abi, size=release.size,
            sha256=release.sha256.hex(), notes=release.notes,
            mandatory=release.mandatory if mandatory is None else mandatory,
            published_at=rfc3339(release.published_at),
            url=f"/api/v1/updates/{release.version}/download?{build}")


def _version(text: str) -> Version:
    try:
        return Version(text)
    except ValueError as error:
        raise validation_failed(("version", str(error))) from None


def _is_among(release: ReleaseRecord, who: str) -> bool:
    """The same people for all asks of one release, others for the next; a larger share contains the smaller one."""
    digest = hashlib.sha256(f"{release.version}\0{who}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < release.share
