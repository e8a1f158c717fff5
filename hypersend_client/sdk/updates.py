"""Newer builds of the app, as the server's operator publishes them: whether there is one, and its bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hypersend_client.sdk.errors import ConnectionFailed, LocalStorageFailed
from hypersend_client.sdk.models import Model
from hypersend_client.sdk.pages import model
from hypersend_client.sdk.parts import FULL
from hypersend_client.sdk.places import place, safe_name
from hypersend_client.sdk.transfer_errors import DiskFull, UpdateBroken
from hypersend_client.sdk.transport import Transport

READ_BYTES = 1024 * 1024
RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class Release(Model):
    """sha256: 64 hex digits, of the whole file. url: a path on the server."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("version", "size", "sha256", "url")

    version: str
    size: int
    sha256: str
    url: str
    platform: str = ""
    abi: str = ""
    notes: str = ""
    mandatory: bool = False

    def check(self) -> None:
        if self.size < 0 or len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError("no build has such a size or digest")


class Updates:
    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def check(self, platform: str, abi: str, version: str) -> Release | None:
        """What this device is offered instead of `version`, or None. No session is needed."""
        answer = await self._http.call(
            "GET", "/updates/check", query={"platform": platform, "abi": abi or "universal", "version": version},
            auth=False)
        found = answer.data.get("release") if isinstance(answer.data, dict) else None
        return None if found is None else model(Release, found)

    async def download(
        self, release: Release, folder: Path, progress: Callable[[int, int], None] = lambda done, size: None
    ) -> Path:
        """Fetch the build, going on with what an earlier try left; returns where it is.

        progress: called with (bytes that are there, bytes in all). A network that goes away is waited for.
        Raises: UpdateBroken where the bytes are not what the server said; DiskFull, LocalStorageFailed, ApiError.
        """
        name = safe_name(["", *release.url.split("?", 1)[0].rsplit("/", 2)][-2] or release.version)
        suffix = {"android": ".apk", "windows": ".msix", "macos": ".dmg", "linux": ".tar.gz"}.get(release.platform, "")
        target = folder / safe_name(f"{name}-{release.abi or 'universal'}{suffix}")
        part = target.with_name(f"{target.name}.{release.sha256[:16]}.part")
        backoff = self._http.backoff()
        with ThreadPoolExecutor(1, thread_name_prefix="update") as pool:
            loop = asyncio.get_running_loop()
            disk = _Disk(part, release)
            try:
                have = await loop.run_in_executor(pool, disk.open)
                while have < release.size:
                    before = have
                    try:
                        have = await self._fetch(release, have, lambda data: loop.run_in_executor(
                            pool, disk.append, data), lambda: loop.run_in_executor(pool, disk.empty), progress)
                    except ConnectionFailed as error:
                        have = await loop.run_in_executor(pool, disk.size)
                        if have > before:
                            backoff = self._http.backoff()
                        await asyncio.sleep(backoff.next_s(error))
                return await loop.run_in_executor(pool, disk.finish, target)
            finally:
                await loop.run_in_executor(pool, disk.close)

    async def _fetch(
        self, release: Release, have: int, append: Callable[[bytes], asyncio.Future[int]],
        empty: Callable[[], asyncio.Future[int]], progress: Callable[[int, int], None],
    ) -> int:
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._http.stream(
            "GET", release.url, headers=headers, auth=False, allow=frozenset({RANGE_NOT_SATISFIABLE})
        ) as response:
            if response.status == RANGE_NOT_SATISFIABLE:
                return await empty()
            if have and response.status != 206:
                have = await empty()
            async for piece in self._http.pieces(response):
                have = await append(piece)
                progress(have, release.size)
                if have > release.size:
                    raise UpdateBroken(release.version)
        return have


class _Disk:
    """The part on the disk. Blocking. Raises: DiskFull, LocalStorageFailed."""

    def __init__(self, part: Path, release: Release) -> None:
        self._part = part
        self._release = release
        self._fd: int | None = None

    def open(self) -> int:
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            raise self._failed(error) from error
        if (have := self.size()) > self._release.size:
            have = self.empty()
        return have

    def size(self) -> int:
        assert self._fd is not None
        return os.lseek(self._fd, 0, os.SEEK_END)

    def append(self, data: bytes) -> int:
        assert self._fd is not None
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view):]
        except OSError as error:
            raise self._failed(error) from error
        return self.size()

    def empty(self) -> int:
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        return os.lseek(self._fd, 0, os.SEEK_SET)

    def finish(self, target: Path) -> Path:
        """Check all of it and give it its name."""
        assert self._fd is not None
        digest = hashlib.sha256()
        os.lseek(self._fd, 0, os.SEEK_SET)
        while data := os.read(self._fd, READ_BYTES):
            digest.update(data)
        if digest.hexdigest() != self._release.sha256:
            self.close()
            self._part.unlink(missing_ok=True)  # nothing of it is worth going on from
            raise UpdateBroken(self._release.version)
        try:
            os.fsync(self._fd)
            self.close()
            return place(self._part, target)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _failed(self, error: OSError) -> LocalStorageFailed:
        if error.errno in FULL:
            return DiskFull(str(self._part.parent))
        return LocalStorageFailed(str(self._part), error.strerror or str(error))
