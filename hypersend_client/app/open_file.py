"""A downloaded file: opened by the platform's own program, shown in its folder, or handed on to another app."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import flet as ft

from hypersend_client.app.state import AppState

# https://www.freedesktop.org/wiki/Specifications/file-manager-interface/
FILE_MANAGER = (
    "gdbus", "call", "--session", "--dest", "org.freedesktop.FileManager1",
    "--object-path", "/org/freedesktop/FileManager1", "--method", "org.freedesktop.FileManager1.ShowItems",
)  # fmt: skip
ANSWER_S = 10.0


def commands(path: Path, *, show: bool, platform: str = sys.platform) -> list[list[str]]:
    """What opens the file, or shows it in its folder; to be tried in this order."""
    if platform == "win32":
        return [["explorer", f"/select,{path}"]] if show else [["cmd", "/c", "start", "", str(path)]]
    if platform == "darwin":
        return [["open", "-R", str(path)]] if show else [["open", str(path)]]
    if show:
        # As Python writes a list of one string, so GVariant reads it.
        return [[*FILE_MANAGER, f"['{path.as_uri()}']", ""], ["xdg-open", str(path.parent)]]
    return [["xdg-open", str(path)]]


def run(command: list[str]) -> bool:
    """Whether the program is there and did it. What stays open longer than ANSWER_S is left running."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        return False
    try:
        # Explorer answers 1 when all went well.
        return process.wait(ANSWER_S) == 0 or command[0] == "explorer"
    except subprocess.TimeoutExpired:
        return True


async def hand_over(app: AppState, path: str, *, show: bool = False) -> None:
    """Open or show it; says so where it is gone or nothing here opens it."""
    if not path or not await asyncio.to_thread(os.path.exists, path):
        app.notices.tell(app.t("transfers.gone"))
        return
    for command in commands(Path(path), show=show):
        if await asyncio.to_thread(run, command):
            return
    app.notices.tell(app.t("transfers.no_program", folder=str(Path(path).parent)))


async def share(app: AppState, path: str) -> None:
    """The phone's own sheet, where opening is one of the choices."""
    if not path or not await asyncio.to_thread(os.path.exists, path):
        app.notices.tell(app.t("transfers.gone"))
        return
    await ft.Share().share_files([ft.ShareFile.from_path(path)])
