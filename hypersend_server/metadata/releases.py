"""Records and contract of releases: builds of the app that people update to. There are few of them."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ReleaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """share: percent of those who ask that are offered it. sha256: 32 bytes. Times: Unix milliseconds."""

    id: str
    version: str
    platform: str
    abi: str
    file_id: str
    size: int
    sha256: bytes
    notes: str
    mandatory: bool
    share: int
    published_at: int
    withdrawn_at: int | None = None


class Releases(Protocol):
    async def add(self, release: ReleaseRecord) -> None:
        """Raises: `release_exists` where this version is published for the platform and ABI already."""

    async def set_share(self, release_id: str, share: int) -> None:
        """Offer it to another share of people."""

    async def withdraw(self, release_id: str, now: int) -> None:
        """Offer it to nobody any more. Withdrawn already is fine."""

    async def published(self) -> list[ReleaseRecord]:
        """All that are not withdrawn, in no order."""

    async def newest_change(self) -> int:
        """Another number after each change, 0 before the first."""
