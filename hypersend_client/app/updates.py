"""A newer build of this app: whether the server offers one, fetching it, handing it to the system. No screen in here.

In the browser there is nothing to update: the page is always the server's own.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import flet as ft

from hypersend_client import __version__
from hypersend_client.sdk import HyperSend, HyperSendError
from hypersend_client.sdk.updates import Release

log = logging.getLogger(__name__)

# What Python calls a processor → what a build is made for.
ANDROID_ABIS = {"aarch64": "arm64-v8a", "armv7l": "armeabi-v7a", "armv8l": "armeabi-v7a", "x86_64": "x86_64"}
DESKTOP_ABIS = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}
PLATFORMS = ("android", "windows", "macos", "linux")


@dataclass(frozen=True, slots=True)
class Build:
    """This app. platform, abi: as releases name them. folder: where a newer one is put."""

    platform: str
    abi: str
    folder: Path
    version: str = __version__


def this_build(platform_name: str, folder: Path, machine: str | None = None) -> Build | None:
    """platform_name: of Flet, such as `android`; None where builds are handed out by somebody else (iOS)."""
    if platform_name not in PLATFORMS:
        return None
    abis = ANDROID_ABIS if platform_name == "android" else DESKTOP_ABIS
    abi = abis.get((machine or platform.machine()).lower(), "universal")
    return Build(platform_name, abi, folder)


class UpdateNotice(ft.Observable):
    """release: what is offered, or None. state: `loading` while it is fetched, `ready` when it lies at `path`.

    put_off: the person wants it later; a mandatory one cannot be. error: why the last try failed.
    """

    def __init__(self, build: Build | None) -> None:
        self.build = build
        self.release: Release | None = None
        self.state: Literal["offered", "loading", "ready"] = "offered"
        self.put_off = False
        self.done_bytes = 0
        self.path = ""
        self.error: HyperSendError | None = None
        self._hs: HyperSend | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def blocks(self) -> bool:
        """Nothing else goes on until it is installed."""
        return self.release is not None and self.release.mandatory

    async def check(self, hs: HyperSend) -> None:
        """Ask the server. Without an answer all stays as it was: the next start asks again."""
        if self.build is None or self.state != "offered":
            return
        try:
            found = await hs.updates.check(self.build.platform, self.build.abi, self.build.version)
        except HyperSendError as error:
            log.info("no word about a newer build: %s", error)
            return
        if found != self.release:
            self.put_off = False
        self._hs, self.release = hs, found

    def fetch(self) -> None:
        """Begin, or go on with what an earlier try left."""
        if self.release is not None and self._task is None:
            self.error, self.state = None, "loading"
            self._task = asyncio.ensure_future(self._fetch(self.release))

    async def _fetch(self, release: Release) -> None:
        assert self._hs is not None
        assert self.build is not None
        try:
            path = await self._hs.updates.download(release, self.build.folder, self._moved)
        except HyperSendError as error:
            self.error, self.state = error, "offered"
        else:
            self.path, self.state = str(path), "ready"
        finally:
            self._task = None

    def _moved(self, done_bytes: int, size_bytes: int) -> None:
        # A hundred steps are enough for a bar.
        if done_bytes >= size_bytes or (done_bytes - self.done_bytes) * 100 >= size_bytes:
            self.done_bytes = done_bytes

    def stop(self) -> None:
        """What has come stays, for the next time."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self.state == "loading":
            self.state = "offered"
