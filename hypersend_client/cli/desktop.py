"""`hypersend app`: the app in a window of its own.

The window is Flet's desktop program. It is no part of any Python package: `flet-desktop` fetches it from Flet's
releases on GitHub at its first use and keeps it in ~/.flet/client; FLET_VIEW_PATH names a folder that has it already.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import urllib.error
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from hypersend_client.cli.people import told_server
from hypersend_client.cli.screen import Screen

INSTALL = "pip install 'hypersend[client,desktop]'"
BROWSER = "In a browser the same app opens at the address of your server."


def what_is_missing(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """A sentence with what to do; "" where the window can open."""
    versions = {}
    for name in ("flet", "flet-desktop"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"The app needs the package {name}. Install it: {INSTALL}"
    if versions["flet"] != versions["flet-desktop"]:
        return (
            f"flet is {versions['flet']} and flet-desktop is {versions['flet-desktop']}, but they must be the same. "
            f"Install them again: {INSTALL}"
        )
    if platform.startswith("linux") and not env.get("DISPLAY"):
        return f"There is no screen here to open a window on (DISPLAY is not set). {BROWSER}"
    return ""


def has_window(folder: str) -> bool:
    """Whether Flet's desktop program lies there, by its name on any platform."""
    return bool(folder) and any(Path(folder, name).exists() for name in ("flet", "flet.exe", "Flet.app"))


def open_app(options: Namespace, screen: Screen) -> int:
    """Until the window is closed. The exit status."""
    if missing := what_is_missing():
        screen.fail("app_missing", missing)
        return 1
    if not has_window(os.environ.get("FLET_VIEW_PATH", "")):
        from flet_desktop import ensure_client_cached  # type: ignore[import-untyped]

        try:
            # It says on standard output that it fetches something; that is no result of this command.
            with contextlib.redirect_stdout(sys.stderr):
                ensure_client_cached()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            screen.fail(
                "app_missing",
                f"The app's window could not be fetched from github.com ({reason}). Try again when that can be "
                f"reached, or unpack Flet's desktop program and name its folder in FLET_VIEW_PATH. {BROWSER}",
            )
            return 1
    if server := told_server(options):
        os.environ["API_BASE_URL"] = server
    os.environ.setdefault("FLET_APP_ID", "hypersend")  # what taskbars group windows by
    import flet as ft

    from hypersend_client.main import main

    ft.run(main)
    return 0
