"""`hypersend-server release …`: builds of the app for people's devices."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from hypersend_server.app import Parts, open_parts
from hypersend_server.commands.console import Console, json_flag, shown_size
from hypersend_server.errors import HyperSendError
from hypersend_server.files.body import Body
from hypersend_server.files.service import OPERATOR
from hypersend_server.files.types import Uploader
from hypersend_server.files.uploads import Claims
from hypersend_server.metadata.releases import ReleaseRecord
from hypersend_server.settings import Settings
from hypersend_server.updates.service import Build
from hypersend_server.updates.types import ANY_ABI, PLATFORMS, ReleaseBody
from hypersend_server.updates.versions import Version

READ_BYTES = 1024 * 1024
BY_SUFFIX = {".apk": "android", ".exe": "windows", ".msi": "windows", ".msix": "windows", ".dmg": "macos",
             ".pkg": "macos", ".appimage": "linux", ".deb": "linux", ".rpm": "linux", ".gz": "linux", ".xz": "linux"}
ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64")
Work = Callable[[Parts, argparse.Namespace, Console], Awaitable[int]]


def add_to(commands: Any) -> None:
    group = commands.add_parser("release", help="builds of the app: add, list, share, withdraw").add_subparsers(
        required=True, metavar="ACTION")
    parser = _action(group, "add", _add, "publish a build")
    parser.add_argument("file", type=Path, help="the APK, or the desktop build")
    parser.add_argument("--version", required=True, help="such as 1.4.0 or 2.0.0-beta.1")
    parser.add_argument("--platform", choices=PLATFORMS, help="default: from the file's name")
    parser.add_argument("--abi", help=f"such as {', '.join(ABIS)} (default: from the file's name, else {ANY_ABI})")
    parser.add_argument("--notes", default="", help="what is new; @FILE reads it from a file")
    parser.add_argument("--mandatory", action="store_true", help="older apps must update")
    parser.add_argument("--share", type=_percent, default=100, metavar="PERCENT", help="only so many people at first")
    _action(group, "list", _list, "what is published")
    for name, work, text in (("share", _share, "offer a release to more people"),
                             ("withdraw", _withdraw, "offer a release to nobody any more")):
        parser = _action(group, name, work, text)
        parser.add_argument("version")
        if name == "share":
            parser.add_argument("percent", type=_percent)
        parser.add_argument("--platform", choices=PLATFORMS, help="only of this platform")
        parser.add_argument("--abi", help="only of this ABI")


def _action(group: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    json_flag(parser)

    def run(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
        async def with_parts() -> int:
            async with open_parts(settings, must_exist=True) as parts:
                return await work(parts, arguments, console)

        return asyncio.run(with_parts())

    parser.set_defaults(run=run)
    return parser


def _percent(text: str) -> int:
    value = int(text.removesuffix("%"))
    if not 1 <= value <= 100:
        raise ValueError
    return value


async def _add(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    path: Path = arguments.file
    platform = arguments.platform or BY_SUFFIX.get(path.suffix.lower())
    if platform is None:
        console.problem(f"which platform is {path.name} for? (--platform)")
        return 2
    notes = arguments.notes
    if notes.startswith("@"):
        notes = await asyncio.to_thread(Path(notes[1:]).read_text, encoding="utf-8")
    try:
        body = msgspec.convert({
            "file_id": "-", "version": arguments.version, "platform": platform, "notes": notes,
            "abi": arguments.abi or next((abi for abi in ABIS if abi in path.name.lower()), ANY_ABI),
            "mandatory": arguments.mandatory, "share": arguments.share}, ReleaseBody)
        Version(body.version)
    except ValueError as error:  # msgspec's are some of them
        console.problem(f"--version, --abi or --notes: {error}")
        return 2
    if any(_is_this(release, body.version, body.platform, body.abi) for release in await parts.updates.published()):
        raise HyperSendError("release_exists", f"{body.version} for {platform} ({body.abi}) is published already.")
    build = await _store(parts, path)
    try:
        release = await parts.updates.publish_build(build, body)
    except HyperSendError:
        await parts.files.remove(Uploader(OPERATOR), build.file_id)
        raise
    console.say(
        f"Published {release.version} for {release.platform} ({release.abi}), {shown_size(release.size)},"
        f" SHA-256 {release.sha256}")
    console.result(release)
    return 0


async def _store(parts: Parts, path: Path) -> Build:
    """The file in the server's storage, like any other."""
    with path.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        whole = hashlib.sha256()
        file_id = await parts.files.begin_for(
            OPERATOR, None, path.name, size, "application/octet-stream", f"release-{parts.new_id()}")
        file = await parts.files.require_readable(OPERATOR, file_id)

        async def chunk(length: int) -> AsyncIterator[bytes]:
            while length:
                part = await asyncio.to_thread(source.read, min(length, READ_BYTES))
                if not part:
                    raise HyperSendError("chunk_size_mismatch", f"{path.name} became shorter while it was read.")
                whole.update(part)
                length -= len(part)
                yield part

        for index in range(file.chunk_count):
            length = min(file.chunk_size, size - index * file.chunk_size)
            await parts.uploads.put_chunk(Uploader(OPERATOR), file_id, index, Body(chunk(length)), Claims())
        await parts.uploads.complete(Uploader(OPERATOR), file_id)
    return Build(file_id, size, whole.digest())


async def _list(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    found = await parts.updates.published()
    for release in found:
        notes = [*(["mandatory"] if release.mandatory else []),
                 *([f"{release.share} % of people"] if release.share < 100 else [])]
        console.say(f"{release.platform:<8} {release.version:<16} {release.abi:<12} {shown_size(release.size):>9}"
                    f"  {', '.join(notes)}")
    console.result({"items": [parts.updates.present(release) for release in found]})
    return 0


async def _share(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    for release in await _chosen(parts, arguments):
        await parts.updates.set_share(release, arguments.percent)
        console.say(f"{release.version} for {release.platform} ({release.abi}) goes to {arguments.percent} % of people")
    console.result({"share": arguments.percent})
    return 0


async def _withdraw(parts: Parts, arguments: argparse.Namespace, console: Console) -> int:
    chosen = await _chosen(parts, arguments)
    for release in chosen:
        await parts.updates.withdraw(release)
        console.say(f"{release.version} for {release.platform} ({release.abi}) is withdrawn")
    still_shown = {release.file_id for release in await parts.updates.published()}
    for release in chosen:
        file = await parts.metadata.files.get(release.file_id)
        if file is not None and file.owner_id == OPERATOR and file.id not in still_shown:
            await parts.files.remove(Uploader(OPERATOR), file.id)
    console.result({"withdrawn": len(chosen)})
    return 0


async def _chosen(parts: Parts, arguments: argparse.Namespace) -> list[ReleaseRecord]:
    """Raises: `not_found` where no release is meant."""
    found = [release for release in await parts.updates.published()
             if _is_this(release, arguments.version, arguments.platform, arguments.abi)]
    if not found:
        raise HyperSendError("not_found", f"{arguments.version} is not published (hypersend-server release list).")
    return found


def _is_this(release: ReleaseRecord, version: str, platform: str | None, abi: str | None) -> bool:
    return release.version == version and platform in (None, release.platform) and abi in (None, release.abi)
