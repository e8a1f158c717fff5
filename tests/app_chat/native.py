"""The app as on a phone or a computer, drawn in a browser: `python -m tests.app_chat.native --host … --port …`.

Sessions, cache, transfers and this device's key are kept in HYPERSEND_STATE as they are there, so that files go from
device to device, and a file is picked from its folder `pick`; the rest is the web app's process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import flet as ft

from hypersend_client import main as app
from hypersend_client.app.state import AppState
from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.web import child


def state_folder() -> Path:
    return Path(os.environ["HYPERSEND_STATE"])


def make_state(page: ft.Page) -> AppState:
    folder = state_folder()
    tokens = FileTokenStore(folder / "accounts.json")
    inside = app._inside(page)
    return AppState(
        connect=lambda address: HyperSend(address, tokens=tokens, cache_dir=folder / "cache", device="Pixel 9"),
        tokens=tokens,
        memory=app.PageMemory(),
        built_in=inside,
        media_base=app.public_origin(page),
        locale=app._locale(page),
        transfers=lambda hs: Transfers(hs, folder / "transfers.sqlite", folder=folder / "Downloads"),
    )


async def pick_files(self: ft.FilePicker, **_: Any) -> list[ft.FilePickerFile]:
    """A browser tells no path, which the picker of a phone does."""
    found = sorted((state_folder() / "pick").iterdir())
    return [ft.FilePickerFile(id=n, name=path.name, size=path.stat().st_size, path=str(path))
            for n, path in enumerate(found)]


if __name__ == "__main__":
    app.make_state = make_state
    ft.FilePicker.pick_files = pick_files  # type: ignore[method-assign]
    child.main()
