"""What the calls about updates take and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hypersend_server.resources import Body, Id, Query, Resource

Platform = Literal["android", "windows", "macos", "linux"]
PLATFORMS: tuple[Platform, ...] = ("android", "windows", "macos", "linux")
ANY_ABI = "universal"
Abi = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[a-z0-9_-]{1,32}$")]
VersionText = Annotated[str, Meta(min_length=5, max_length=64)]
Notes = Annotated[str, Meta(max_length=20_000)]
Share = Annotated[int, Meta(ge=1, le=100)]


class CheckQuery(Query, frozen=True):
    """version: the one that runs. abi: of the device, such as arm64-v8a."""

    platform: Platform
    version: VersionText
    abi: Abi = ANY_ABI


class LatestQuery(Query, frozen=True):
    platform: Platform
    abi: Abi = ANY_ABI


class BuildQuery(Query, frozen=True):
    """Which build of the version; without it the first that there is."""

    platform: Platform | None = None
    abi: Abi | None = None


class ReleaseBody(Body, frozen=True):
    """file_id: a complete file of one's own that was begun without a chat. share: percent of the people who are
    offered it."""

    file_id: Id
    version: VersionText
    platform: Platform
    abi: Abi = ANY_ABI
    notes: Notes = ""
    mandatory: bool = False
    share: Share = 100


class Release(Resource):
    """sha256: of the whole file. url: where its bytes are, on this server."""

    version: str
    platform: str
    abi: str
    size: int
    sha256: str
    notes: str
    mandatory: bool
    published_at: str
    url: str


class Checked(Resource):
    available: bool
    release: Release | None
