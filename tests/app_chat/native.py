"""The app as on a phone or a computer, drawn in a browser: `python -m tests.app_chat.native --host … --port …`.

Sessions, cache, transfers and this device's key are kept in HYPERSEND_STATE as they are there, so that files go from
device to device; the rest is the web app's process.
"""

from __future__ import annotations

import os
from pathlib import Path

import flet as ft

from hypersend_client import main as app
from hypersend_client.app.state import AppState
from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.web import child


def make_state(page: ft.Page) -> AppState:
    folder = Path(os.environ["HYPERSEND_STATE"])
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


if __name__ == "__main__":
    app.make_state = make_state
    child.main()
